"""One Transformer block, the normalisation first, with GELU. tokens [N, L, width] -> tokens [N, L, width].

Vaswani, Shazeer, Parmar et al., Attention Is All You Need, 2017 (arXiv:1706.03762); the order of its parts as in
Xiong, Yang, He et al., On Layer Normalization in the Transformer Architecture, 2020 (arXiv:2002.04745); the activation
from Hendrycks and Gimpel, Gaussian Error Linear Units, 2016 (arXiv:1606.08415).

    onnxact export models/transformer.py:transformer_block --dynamic tokens:0=batch --dynamic tokens:1=length
"""

from __future__ import annotations

import torch
from seeding import settled
from torch import Tensor, nn
from torch.nn import functional


class TransformerBlock(nn.Module):
    """Self-attention and a two-layer perceptron, each behind a normalisation and beside a shortcut."""

    def __init__(self, width: int, heads: int, approximate: str) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate=approximate), nn.Linear(4 * width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens, each changed by all others."""
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))

    def attention(self, x: Tensor) -> Tensor:
        """Return scaled dot-product attention over all heads."""
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        joined = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return self.project(joined)

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Return two sequences of ten tokens."""
        return (torch.zeros(2, 10, self.norm1.normalized_shape[0]),)


def transformer_block(width: int = 64, heads: int = 4) -> TransformerBlock:
    """Return a block with the exact GELU."""
    return settled(lambda: TransformerBlock(width, heads, "none"))


def transformer_block_tanh(width: int = 64, heads: int = 4) -> TransformerBlock:
    """Return a block with the GELU that is approximated by a tanh, as GPT-2 has it."""
    return settled(lambda: TransformerBlock(width, heads, "tanh"))
