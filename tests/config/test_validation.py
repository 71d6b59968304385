"""Config classes: defaults, conversion and refusal of invalid values."""

from dataclasses import FrozenInstanceError, asdict, replace
from pathlib import Path

import pytest

from zflipon.config import CallConfig, EvaluateConfig, InferenceConfig, Selection, VariantConfig
from zflipon.errors import ConfigError


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (
            InferenceConfig,
            {"precision": "float8"},
            "precision: input should be 'auto', 'float32', 'bfloat16', 'float16' or 'int8'",
        ),
        (InferenceConfig, {"threads": 0}, "threads: input should be greater than 0, not 0"),
        (InferenceConfig, {"batch_size": "many"}, "batch_size: input should be a valid integer"),
        (InferenceConfig, {"thread": 1}, "thread: unexpected keyword argument, not 1"),
        (CallConfig, {"threshold": 1.5}, "threshold: input should be less than or equal to 1, not 1.5"),
        (VariantConfig, {"shifts": -1}, "shifts: input should be greater than 0, not -1"),
        (EvaluateConfig, {"protocol": "genom"}, "protocol: input should be 'genome', 'sampled' or 'both'"),
        (Selection, {"contigs": "chr1"}, "contigs: input should be a valid tuple, not 'chr1'"),
    ],
)
def test_an_invalid_value_is_refused_by_name(cls, values, message):
    with pytest.raises(ConfigError) as error:
        cls(**values)
    assert str(error.value).startswith(message)


def test_positional_values_are_validated_too():
    with pytest.raises(ConfigError, match="precision: input should be"):
        InferenceConfig(None, "float8")


def test_configs_are_frozen_dataclasses():
    config = InferenceConfig(threads=2)
    assert asdict(replace(config, threads=3))["threads"] == 3
    assert config == InferenceConfig(threads=2)
    with pytest.raises(FrozenInstanceError):
        config.threads = 1


def test_lists_become_tuples_and_paths_are_accepted():
    selection = Selection(contigs=["chr1", "chr2"], regions_bed=Path("regions.bed"))
    assert selection.contigs == ("chr1", "chr2")
    assert selection.regions_bed == Path("regions.bed")
