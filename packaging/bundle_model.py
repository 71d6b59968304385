"""Make a trained model one of the bundled models: float16 weights, shared tensors, fingerprints.

python packaging/bundle_model.py RUN NAME [--share MODEL]

RUN is the output folder of ``zflipon train``. NAME is the folder in ``zflipon/models/bundled`` that gets its config,
card, tokenizer and weights; the screen of a model that it replaces stays. Weights are stored as float16 and computed in
float32. With ``--share``, tensors that equal those of another bundled model are left out. Run ``python
benchmarks/fingerprints.py`` afterwards.
"""

from __future__ import annotations

import argparse
import json
import shutil

from safetensors.torch import save_file

from zflipon.checksums import sha256_of
from zflipon.models.files import BUNDLED, CONFIG, SHARED_WEIGHTS, WEIGHTS_SHA256, locate
from zflipon.models.shared_weights import share_weights
from zflipon.models.weight_files import read_json, read_state_dict

WEIGHTS = "model.safetensors"
FILES = (CONFIG, "README.md", "tokenizer.json")


def main() -> None:
    """Copy the files of the run, and print the size of its weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("name")
    parser.add_argument("--share", metavar="MODEL")
    arguments = parser.parse_args()
    source, target = locate(arguments.run), BUNDLED / arguments.name
    target.mkdir(exist_ok=True)
    tensors = read_state_dict(source.whole_weights)
    half = {name: each.half() if each.is_floating_point() else each for name, each in tensors.items()}
    previous = read_json(target / CONFIG) if (target / CONFIG).is_file() else {}
    for name in FILES:
        if (source.folder / name).is_file():
            shutil.copy(source.folder / name, target / name)
    save_file(half, target / WEIGHTS, {"format": "pt"})
    config = json.loads((target / CONFIG).read_text(encoding="utf-8"))
    config.pop(SHARED_WEIGHTS, None)
    if "screen" in previous.get("zflipon", {}):  # chosen apart from the training: docs/performance.md
        config["zflipon"]["screen"] = previous["zflipon"]["screen"]
    config[WEIGHTS_SHA256] = sha256_of(target / WEIGHTS)
    (target / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if arguments.share:
        print(f"{share_weights(target, arguments.share)} tensors are those of {arguments.share}")
    for path in target.iterdir():
        path.chmod(0o644)
    print(f"{target / WEIGHTS}: {(target / WEIGHTS).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
