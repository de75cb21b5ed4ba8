"""Light gated recurrent unit: ReLU and Sigmoid in the body of a loop. sound [T, N, inputs] -> states [T, N, hidden].

Ravanelli, Brakel, Omologo and Bengio, Light Gated Recurrent Units for Speech Recognition, 2018 (arXiv:1803.10225).
The loop is torch's scan, which is exported as a Scan node; a Python loop would be unrolled.

    onnxact export models/gated_rnn.py:light_gru
"""

from __future__ import annotations

import torch
from seeding import settled
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan


class LightGRU(nn.Module):
    """One layer: z = sigmoid(Wz x + Uz h), c = relu(Wc x + Uc h), h = z h + (1 - z) c."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.from_input = nn.Linear(inputs, 2 * hidden, bias=False)
        self.norm = nn.BatchNorm1d(2 * hidden)
        self.from_state = nn.Linear(hidden, 2 * hidden, bias=False)
        self.candidate = nn.ReLU()
        nn.init.orthogonal_(self.from_state.weight)

    def forward(self, sound: Tensor) -> Tensor:
        """Return the state after each step; the first one is zero."""
        steps = self.norm(self.from_input(sound).transpose(1, 2)).transpose(1, 2)
        start = sound.new_zeros(sound.shape[1], self.from_state.in_features)
        return scan(self.step, start, steps)[1]

    def step(self, state: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Return the next state, twice: as what is carried on and as what is given out."""
        gate, new = (step + self.from_state(state)).chunk(2, dim=-1)
        gate = torch.sigmoid(gate)
        state = gate * state + (1 - gate) * self.candidate(new)
        return state, state.clone()

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Return two sequences of five steps."""
        return (torch.zeros(5, 2, self.from_input.in_features),)


def light_gru(inputs: int = 16, hidden: int = 32) -> LightGRU:
    """Return one layer of it."""
    return settled(lambda: LightGRU(inputs, hidden), (5, 8, inputs))
