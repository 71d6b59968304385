"""The public names of `zflipon.tokenization` are imported on first use."""

import subprocess
import sys

import pytest

import zflipon.tokenization


def test_importing_the_package_loads_neither_torch_nor_the_tokenizers_library():
    code = "import sys, zflipon.tokenization; print(*sorted({'torch', 'numpy', 'tokenizers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", zflipon.tokenization.__all__)
def test_every_public_name_can_be_imported(name):
    assert getattr(zflipon.tokenization, name).__module__.startswith("zflipon.tokenization.")
    assert name in dir(zflipon.tokenization)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'limit_tokens'"):
        zflipon.tokenization.limit_tokens  # noqa: B018
