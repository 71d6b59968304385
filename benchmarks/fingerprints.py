"""Write the fingerprints of the bundled models, which `zflipon doctor` compares; needed after a model has changed.

python benchmarks/fingerprints.py
"""

from __future__ import annotations

import json

from zflipon.config import InferenceConfig
from zflipon.models import load
from zflipon.models.files import bundled
from zflipon.workflows.doctor import predict_reference
from zflipon.workflows.fingerprints import FINGERPRINTS, fingerprint


def main() -> None:
    """Predict the reference sequences on the CPU in float32, and write the fingerprints."""
    config = InferenceConfig(device="cpu", precision="float32")
    prints = {name: fingerprint(predict_reference(load(name), config)[1]) for name in bundled()}
    lines = [f" {json.dumps(name)}: {json.dumps(values)}" for name, values in prints.items()]
    FINGERPRINTS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{FINGERPRINTS}: {', '.join(prints)}")


if __name__ == "__main__":
    main()
