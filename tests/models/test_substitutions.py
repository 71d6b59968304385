"""Substitutions under a wide context: states and logits are those of a whole forward pass."""

import numpy as np
import pytest
import torch
from conftest import dna
from torch.nn import functional as F

from zflipon.genome.alphabet import base_codes
from zflipon.models.heads.base_resolution import BaseHead
from zflipon.models.heads.context_network import COARSE_BIN, ContextNetwork
from zflipon.models.heads.substituted_network import SubstitutedNetwork
from zflipon.models.heads.substitutions import SubstitutedWindow

CONTEXT = {"widths": [8, 12, 16], "dilations": [1, 2, 4], "blocks": [1, 1, 2]}


@pytest.mark.parametrize("blocks", [(1, 1, 2), (0, 1, 2), (2, 0, 0)])
def test_states_are_those_of_the_changed_sequence(blocks):
    torch.manual_seed(0)
    network = ContextNetwork(**{**CONTEXT, "blocks": blocks}).eval()
    codes = torch.from_numpy(base_codes(dna(1024, 1)))
    letters = F.one_hot(codes, 4).float()
    positions = np.array([0, 1, 17, 511, 512, 1022, 1023])
    new = (codes[positions] + 1) % 4
    with torch.inference_mode():
        substituted = SubstitutedNetwork(network, letters)
        patches = substituted.substitute(positions, F.one_hot(new, 4).float(), (0, len(codes) // COARSE_BIN))
        for row, (position, letter) in enumerate(zip(positions, new, strict=True)):
            changed = codes.clone()
            changed[position] = letter
            expected = network(F.one_hot(changed, 4).float()[None])
            for name in ("fine", "coarse"):
                found, patch = getattr(substituted, name).clone(), getattr(patches, name)
                for offset, state in enumerate(patch.values[row]):
                    place = int(patch.start[row]) + offset
                    if 0 <= place < len(found):
                        found[place] = state
                assert torch.allclose(found, getattr(expected, name)[0], atol=1e-4)


@pytest.mark.parametrize("size", [106, 112, 700])
def test_logits_are_those_of_the_changed_sequence(size):
    torch.manual_seed(1)
    head = BaseHead(8, 8, 5, [1, 2], 0.0, 96, [1], [6, 12], 0, wide_context=CONTEXT).eval()
    assert head.can_substitute()
    text = (dna(40, 5) + "CG" * 8 + dna(300, 6) + "NNN" + "TG" * 12 + dna(400, 7))[:size]
    codes = torch.from_numpy(base_codes(text))

    def forward(bases):
        states, tokens = torch.zeros(1, 1, 8), torch.zeros(1, size, dtype=torch.long)
        output = head(states, tokens, bases[None])
        return output.can_form_logit[0], output.is_formed_logit[0]

    positions = np.array([0, 45, 56, size // 2, size - 1])
    new = (codes[positions] + 1) % 4
    with torch.inference_mode():
        window = SubstitutedWindow(head, codes)
        for one, other in zip(window.reference_logits(), forward(codes), strict=True):
            assert torch.allclose(one, other, atol=1e-3)
        found = window.logits(positions, new, (0, size))
        inner = window.logits(positions[1:3], new[1:3], (44, 60))
        for row, (position, letter) in enumerate(zip(positions, new, strict=True)):
            changed = codes.clone()
            changed[position] = letter
            for values, part, expected in zip(found, inner, forward(changed), strict=True):
                assert torch.allclose(values[row], expected, atol=1e-3)
                if row in (1, 2):
                    assert torch.allclose(part[row - 1], expected[44:60], atol=1e-3)


def test_heads_with_other_inputs_cannot_substitute():
    plain = BaseHead(8, 8, 5, [1], 0.0, 16, [1], [6, 12], 0)
    kmers = BaseHead(8, 8, 5, [1], 0.0, 16, [1], [6, 12], 0, wide_context=CONTEXT, kmer_size=2)
    assert not plain.can_substitute()
    assert not kmers.can_substitute()
