"""The loss of a batch is the same for every number of processes and of parts of gradient accumulation."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import dna

from zflipon.config import StageConfig
from zflipon.models import create
from zflipon.tokenization.alignment import IGNORE
from zflipon.training.batching import LOSS_WEIGHT, BatchDataset
from zflipon.training.labelled_windows import EpochBatches, LabelledWindows
from zflipon.training.loop import StageTrainer, _training_arguments, train_stage

SHAPE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def labelled_windows(count):
    """Return windows whose labels and unknown bases are unevenly distributed."""
    rng = np.random.default_rng(3)
    labels = np.zeros((count, 60), dtype=np.int8)
    for i in range(count):
        labels[i, : rng.integers(0, 50) if i % 3 == 0 else 0] = 1
        labels[i, 60 - rng.integers(0, 40) :] = IGNORE
    return LabelledWindows([dna(60, seed) for seed in range(count)], labels)


def stage_of(objective, accumulation=1, **settings):
    return StageConfig(
        objective=objective,
        sampling="tiled",
        window=60,
        margin=0,
        batch_size=16,
        steps=12,
        gradient_accumulation=accumulation,
        learning_rate=1e-2,
        warmup=0.0,
        evaluations=0,
        reverse_complement=False,
        **settings,
    )


def untrained(objective, tokenizer, class_weights):
    torch.manual_seed(0)
    head = {"base_head": {"channels": 8, "context": 8, "dropout": 0.0}} if objective == "base" else {}
    checkpoint = create("compact", objective, tokenizer, **SHAPE, hidden_dropout_prob=0.0, **head)
    checkpoint.module.config.class_weights = class_weights
    return checkpoint


@pytest.mark.parametrize("objective", ["token", "sequence"])
@pytest.mark.parametrize("accumulation", [2, 4])
def test_weighted_training_does_not_depend_on_accumulation(tmp_path, tokenizer, objective, accumulation):
    windows, weights = labelled_windows(64), (1.0, 8.0)
    states = []
    for parts in (1, accumulation):
        stage = stage_of(objective, parts, class_weights=weights)
        checkpoint = untrained(objective, tokenizer, list(weights))
        train_stage(checkpoint, EpochBatches(windows, stage), None, tmp_path / str(parts))
        states.append(checkpoint.module.state_dict())
    for name, expected in states[0].items():
        torch.testing.assert_close(states[1][name], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("objective", "weights"), [("token", [1.0, 8.0]), ("sequence", [2.0, 1.0]), ("base", None)]
)
@pytest.mark.parametrize("processes", [2, 4])
def test_losses_of_the_processes_average_to_that_of_one(tokenizer, objective, weights, processes):
    source = EpochBatches(labelled_windows(64), stage_of(objective))
    checkpoint = untrained(objective, tokenizer, weights)
    module = checkpoint.module.eval()
    class_weights = weights if objective != "base" else None

    def loss_of(parts, processes):
        total = sum(batch[LOSS_WEIGHT] for batch in parts)
        trainer = SimpleNamespace(accelerator=SimpleNamespace(num_processes=processes))
        losses = [
            StageTrainer.compute_loss(trainer, module, batch, num_items_in_batch=torch.tensor(total))
            for batch in parts
        ]
        return torch.stack(losses).mean()

    whole = loss_of([BatchDataset(source, tokenizer, class_weights=class_weights)[0]], 1)
    parts = [BatchDataset(source, tokenizer, processes, rank, class_weights)[0] for rank in range(processes)]
    torch.testing.assert_close(loss_of(parts, processes), whole, atol=1e-5, rtol=1e-5)


def test_batch_without_known_labels_has_no_loss(tokenizer):
    windows = LabelledWindows([dna(60, 1)] * 16, np.full((16, 60), IGNORE, dtype=np.int8))
    checkpoint = untrained("token", tokenizer, [1.0, 8.0])
    batch = BatchDataset(EpochBatches(windows, stage_of("token")), tokenizer, class_weights=[1.0, 8.0])[0]
    trainer = SimpleNamespace(accelerator=SimpleNamespace(num_processes=1))
    loss = StageTrainer.compute_loss(trainer, checkpoint.module, batch, num_items_in_batch=torch.tensor(0.0))
    loss.backward()
    assert loss.item() == 0


@pytest.mark.parametrize("objective", ["token", "base"])
def test_label_smoothing_changes_the_target(tokenizer, objective):
    checkpoint = untrained(objective, tokenizer, None)
    module = checkpoint.module.eval()
    batch = BatchDataset(EpochBatches(labelled_windows(16), stage_of(objective)), tokenizer)[0]
    known = batch["labels"] != IGNORE
    losses = {}
    for smoothing in (0.0, 0.2):
        module.label_smoothing = smoothing
        output = module(**batch)
        logits = output.logits if objective == "base" else output.logits[..., 1] - output.logits[..., 0]
        target = batch["labels"][known].float() * (1 - smoothing) + smoothing / 2
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[known], target)
        torch.testing.assert_close(output.loss, expected)
        losses[smoothing] = output.loss.item()
    assert losses[0.0] != losses[0.2]


class RecordedSource(EpochBatches):
    """Counts the windows that are read."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.read = 0

    def batch(self, step, part=slice(None)):
        windows = super().batch(step, part)
        self.read += len(windows)
        return windows


def test_a_process_reads_its_own_windows_only(tokenizer):
    windows, stage = labelled_windows(64), stage_of("base", accumulation=2)
    source = RecordedSource(windows, stage)
    items = [BatchDataset(source, tokenizer, 4, rank)[turn] for turn in range(2) for rank in range(4)]
    assert source.read == stage.batch_size
    whole = torch.cat([item["labels"] for item in items])
    assert torch.equal(whole, BatchDataset(EpochBatches(windows, stage_of("base")), tokenizer)[0]["labels"])


def test_several_gpus_without_a_launcher_are_not_split_by_data_parallel(tmp_path, monkeypatch, caplog):
    """Only the number of GPUs is simulated: a device is set up when the Trainer is built."""
    monkeypatch.setattr(
        "transformers.TrainingArguments.n_gpu", property(lambda self: self.__dict__.get("_n_gpu", 4))
    )
    monkeypatch.setattr("transformers.TrainingArguments._setup_devices", torch.device("cpu"))
    arguments = _training_arguments(stage_of("base"), 4, tmp_path, ())
    assert arguments.n_gpu == 1
    assert "training uses 1 of 4 GPUs; to use all: accelerate launch --num_processes 4" in caplog.text
