"""Write what the bundled models say of the doctor's reference sequences, after one of them has changed.

python benchmarks/fingerprints.py
"""

from __future__ import annotations

import json

from zflipon.config import InferenceConfig
from zflipon.models import load
from zflipon.models.hub import bundled
from zflipon.workflows.doctor import FINGERPRINTS, fingerprint, read_reference


def main() -> None:
    """Read the sequences on the CPU in float32, and write the file beside the models."""
    config = InferenceConfig(device="cpu", precision="float32")
    found = {name: fingerprint(read_reference(load(name), config)[1]) for name in bundled()}
    lines = [f" {json.dumps(name)}: {json.dumps(told)}" for name, told in found.items()]
    FINGERPRINTS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{FINGERPRINTS}: {', '.join(found)}")


if __name__ == "__main__":
    main()
