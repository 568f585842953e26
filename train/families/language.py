"""What models that write text do alike: the video among the words, and the loss of what follows.

Shape letters: L ids of a text, N visual tokens, D decoder width, B sequences, S positions of the
longest, M positions that predict something, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from groundserve.families.plans import VISUAL_TOKEN_ID
from train.examples import IGNORE_INDEX, Text


def splice(table: nn.Module, text: Text, visual: Tensor) -> tuple[int, Tensor]:
    """Put visual tokens (N, D) in their place; returns the place and the whole (L - 1 + N, D)."""
    ids = torch.as_tensor(text.ids, device=visual.device)
    # Exactly one, as the tokenizers see to: item() refuses none and several.
    place = int((ids == VISUAL_TOKEN_ID).nonzero().item())
    # Without the placeholder, whose id is negative and no row of the table.
    words = table(torch.cat([ids[:place], ids[place + 1 :]]))
    return place, torch.cat([words[:place], visual.to(words.dtype), words[place:]])


def spread_targets(text: Text, *, num_visual: int) -> Tensor:
    """Return int64 (L - 1 + N,): a text's targets count the placeholder as one position."""
    assert text.targets is not None, "this stage writes text"
    targets, place = torch.as_tensor(text.targets), int((text.ids == VISUAL_TOKEN_ID).argmax())
    nothing = torch.full((num_visual,), IGNORE_INDEX)
    return torch.cat([targets[:place], nothing, targets[place + 1 :]])


def next_token_loss(
    head: Callable[[Tensor], Tensor], states: Tensor, targets: Sequence[Tensor]
) -> Tensor:
    """Mean loss over all tokens with a target, of states (B, S, D) and a row of targets each."""
    rows = pad_sequence(list(targets), batch_first=True, padding_value=IGNORE_INDEX)
    rows = rows.to(states.device)
    # The vocabulary is wide: only positions that predict something go through the head.
    # The state at s predicts the token at s + 1, so the last state and the first token fall away.
    predicts = rows[:, 1:] != IGNORE_INDEX
    return language_loss(head(states[:, :-1][predicts]), rows[:, 1:][predicts])


def language_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of (M, V) and int64 (M,), the token that follows each.

    In float32, in float64 of logits that are.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    # The mean of nothing is NaN. A sum times 0 keeps the graph, so that this process takes part in
    # the collectives of the backward pass like all others.
    if not len(targets):  # every target of the batch was masked
        return logits.sum() * 0.0
    return F.cross_entropy(logits, targets)
