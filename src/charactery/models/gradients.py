"""The parts of a decoder that autograd would put together from many small steps, each with its way back written out.

On a processor the small steps took as long as the matrix products. `tests/test_models_decoder.py` holds values and
gradients against transformers' own.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional

Product = Callable[[torch.Tensor], torch.Tensor]
LOG2_E = 1 / math.log(2)
QUERIES = 64  # positions that look back at once: what is after the last of them is not computed
SCORES = 800_000  # pairs of a query and a key that are held at once: 1.6 MB in bfloat16
WHOLE = 32  # keys are read in multiples of it: a softmax over any other number takes up to twice as long
POSITIONS = 256  # whose logits are held at once: 25 MB in bfloat16 at 49,152 tokens
ON_CARD = 4  # times as many on a graphics card, which many small calls hold up
CACHED = 16  # rows of a vocabulary's width (50,000 float32) that stay in a processor's cache between steps


def cached(values_N: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Rows in pieces that a processor's cache holds, should they be as wide as a vocabulary; elsewhere all of them."""
    rows = CACHED if values_N.device.type == "cpu" else max(1, len(values_N))
    return torch.split(values_N, rows)


def normed(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """x (…, C) over its root mean square, times weight (C)."""
    if x.device.type != "cpu":
        return functional.rms_norm(x, weight.shape, weight, epsilon)
    wide = x.to(torch.float32, copy=True)  # in place from here on: torch's own makes a tensor at each of eight steps
    return wide.mul_(_scale(wide, epsilon)).mul_(weight).to(x.dtype)


def _scale(x: torch.Tensor, epsilon: float) -> torch.Tensor:
    """One over the root mean square of x (…, C), float32: (…, 1)."""
    length: torch.Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return length.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()


def turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x (N, S, D) turned; cos and sin are (N, 1, D), the first half of the sines negated."""
    low, high = x.chunk(2, -1)
    return torch.addcmul(x * cos, torch.cat([high, low], -1), sin)


def gated(gate_up: torch.Tensor) -> torch.Tensor:
    """(N, 2 C) to (N, C)."""
    gate, up = gate_up.chunk(2, -1)
    return functional.silu(gate).mul_(up)


class _Norm(torch.autograd.Function):
    """Root mean square norm with a weight that does not learn (Zhang and Sennrich 2019, arXiv 1910.07467)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        """As `normed`."""
        ctx.save_for_backward(x, weight)
        ctx.epsilon = epsilon
        return normed(x, weight, epsilon)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Of x alone."""
        x, weight = ctx.saved_tensors
        wide, grad = x.float(), grads[0].to(torch.float32, copy=True).mul_(weight)
        scale = _scale(wide, ctx.epsilon)
        along = (grad * wide).sum(-1, keepdim=True).mul_(scale.square() / -x.shape[-1])
        return grad.addcmul_(wide, along).mul_(scale).to(x.dtype), None, None


class _Turn(torch.autograd.Function):
    """Rotary positions (Su et al. 2021, arXiv 2104.09864); turning back is turning the other way."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """As `turned`."""
        ctx.save_for_backward(cos, sin)
        return turned(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Of x alone."""
        cos, sin = ctx.saved_tensors
        return turned(grads[0], cos, -sin), None, None


class _Gate(torch.autograd.Function):
    """SiLU of the first half of the columns times the second half."""

    @staticmethod
    def forward(ctx: Any, gate_up: torch.Tensor) -> torch.Tensor:
        """As `gated`."""
        ctx.save_for_backward(gate_up)
        return gated(gate_up)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        """Of both halves."""
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, -1)
        out = torch.empty_like(gate_up)
        to_gate, to_up = out.chunk(2, -1)
        torch.mul(grads[0], functional.silu(gate), out=to_up)
        torch.ops.aten.silu_backward.grad_input(grads[0] * up, gate, grad_input=to_gate)
        return out


class _Attend(torch.autograd.Function):
    """Causal attention of rows without padding before their tokens, by products; heads of a group share their keys.

    The way back of torch's fused attention takes three times as long on a processor for rows of a hundred tokens.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *before: torch.Tensor,
    ) -> torch.Tensor:
        """query (B, S, L, D), key and value (B, G, L, D), and before: keys and values that all rows share, (G, P, D).

        Returns (B, S, L, D). No gradients for what is before.
        """
        rows, heads, length, width = query.shape
        shared = before[0].shape[1] if before else 0
        over = key.new_zeros(1, 1, 1, 1).expand(rows, key.shape[1], -(shared + length) % WHOLE, width)
        key, value = (
            torch.cat([*(old.expand(rows, -1, -1, -1) for old in before[n : n + 1]), own, over], 2)
            for n, own in enumerate((key, value))
        )
        query = query * width**-0.5
        out = query.new_empty(rows, length, heads, width).transpose(1, 2)  # laid out as tokens are
        weights = []
        later = query.new_full((2 * QUERIES, 2 * QUERIES + WHOLE), -math.inf).triu_(1)
        for some, here, end in _blocks(rows, heads, length, shared):
            count = here.stop - here.start
            key_R_K_D, value_R_K_D = key[some, :, :end].flatten(0, 1), value[some, :, :end].flatten(0, 1)
            query_R_N_D = query[some, :, here].reshape(len(key_R_K_D), -1, width)
            score = torch.bmm(query_R_N_D, key_R_K_D.transpose(1, 2)).view(-1, heads, count, end)
            score[..., shared + here.start :] += later[:count, : end - shared - here.start]
            weight_R_N_K = torch.softmax(score, -1).view(len(key_R_K_D), -1, end)
            out[some, :, here] = torch.bmm(weight_R_N_K, value_R_K_D).view(-1, heads, count, width)
            if any(ctx.needs_input_grad):  # kept, they take as much room as the square of the length
                weights.append(weight_R_N_K)
        ctx.save_for_backward(query, key, value, *weights)
        ctx.before = len(before)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Of queries, keys and values."""
        query, key, value, *weights = ctx.saved_tensors
        assert not ctx.before, "no gradients flow through what rows share"
        rows, heads, length, width = query.shape
        to_query = torch.empty_like(query)
        to_key, to_value = (torch.zeros_like(t, memory_format=torch.contiguous_format) for t in (key, value))
        for weight_R_N_K, (some, here, end) in zip(weights, _blocks(rows, heads, length, 0), strict=True):
            key_R_K_D, value_R_K_D = (t[some, :, :end].flatten(0, 1) for t in (key, value))
            grad_R_N_D, query_R_N_D = (t[some, :, here].reshape(len(key_R_K_D), -1, width) for t in (grads[0], query))
            to_weight = torch.bmm(grad_R_N_D, value_R_K_D.transpose(1, 2))
            to_score = torch._softmax_backward_data(to_weight, weight_R_N_K, -1, weight_R_N_K.dtype)
            here_G_K_D = to_key[some, :, :end].shape
            to_value[some, :, :end] += torch.bmm(weight_R_N_K.transpose(1, 2), grad_R_N_D).view(here_G_K_D)
            to_key[some, :, :end] += torch.bmm(to_score.transpose(1, 2), query_R_N_D).view(here_G_K_D)
            heard = torch.bmm(to_score, key_R_K_D).mul_(width**-0.5)
            to_query[some, :, here] = heard.view(-1, heads, here.stop - here.start, width)
        return to_query, to_key[:, :, :length], to_value[:, :, :length], *[None] * ctx.before


def _blocks(rows: int, heads: int, length: int, shared: int) -> Iterator[tuple[slice, slice, int]]:
    """Rows, and positions in them, whose scores stay in a processor's cache from product to product, and how many keys
    these look at, what rows share in front."""
    queries = QUERIES if shared < length else 2 * QUERIES  # there, little of what is read lies ahead
    together = max(1, SCORES // (heads * min(length, queries) * (shared + length)))
    for first in range(0, rows, together):
        for start in range(0, length, queries):
            stop = min(start + queries, length)
            yield slice(first, min(first + together, rows)), slice(start, stop), -(-(shared + stop) // WHOLE) * WHOLE


class _Adapted(torch.autograd.Function):
    """A product with weights that do not learn and, beside it, adapters that do (Hu et al. 2021, arXiv 2106.09685).

    Each adapter has columns of its own. Backwards the product is that with the weights' transpose.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, there: Product, back: Product, columns: Sequence[slice],
        down: torch.Tensor | None = None, *ups: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """x (N, C); `down` (R, C) of all adapters, one after the other, and of each its columns and its `up` (S, R),
        the scale in it. Returns (N, the sum of all S)."""
        ctx.back, ctx.columns = back, columns
        out = there(x)
        heard = None
        if down is not None:
            heard = functional.linear(x, down)
            for here, up, part in zip(columns, ups, split(heard, ups), strict=True):
                out[:, here].addmm_(part, up.t())
        ctx.save_for_backward(x, down, heard, *ups)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Of x, down and each up."""
        x, down, heard, *ups = ctx.saved_tensors
        grad = grads[0].contiguous()
        to_x = ctx.back(grad) if ctx.needs_input_grad[0] else None
        if down is None:
            return to_x, None, None, None
        parts = [grad[:, here] for here in ctx.columns]
        to_heard = torch.cat([part @ up for part, up in zip(parts, ups, strict=True)], 1)
        if to_x is not None:
            to_x.addmm_(to_heard, down)
        to_ups = [part.t() @ own for part, own in zip(parts, split(heard, ups), strict=True)]
        return to_x, None, None, None, to_heard.t() @ x, *to_ups


def split(heard: torch.Tensor, ups: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """What each adapter's first half says, (N, R), of all of them together."""
    return torch.split(heard, [up.shape[1] for up in ups], 1)


class _Chosen(torch.autograd.Function):
    """Log-probabilities of given tokens, from what the last layer says of them, by a vocabulary that does not learn.

    A few hundred positions at a time: their logits are gone before the next ones are made, and what is kept of them is
    the way back (as in Hsu et al. 2024, arXiv 2410.10989). Of those a few rows at a time, so that what is computed of a
    row's logits stays in the processor's cache; torch's own softmax takes several times as long.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_N_C: torch.Tensor, token_N: torch.Tensor, head: Product, back: Product
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of each row: log-probability of its token, entropy (nats), mean logit, and whether the token is on top."""
        learns = ctx.needs_input_grad[0]
        found, backs = [], []
        rows = POSITIONS if hidden_N_C.device.type == "cpu" else ON_CARD * POSITIONS
        for hidden, token_of in zip(torch.split(hidden_N_C, rows), torch.split(token_N, rows), strict=True):
            logits_N_V = head(hidden)
            for logits, token in zip(cached(logits_N_V), cached(token_of), strict=True):
                most_N_1 = logits.amax(-1, keepdim=True).float()
                below_N_V = logits.float() - most_N_1
                weight_N_V = (below_N_V * LOG2_E).exp2_()
                total_N = weight_N_V.sum(-1)
                of_token_N = below_N_V.gather(1, token[:, None])[:, 0]
                mean_N = below_N_V.mean(-1) + most_N_1[:, 0]
                entropy_N = total_N.log() - below_N_V.mul_(weight_N_V).sum(-1) / total_N
                found.append((of_token_N - total_N.log(), entropy_N, mean_N, of_token_N == 0))
                if learns:  # one for the token, less the probabilities, in place of the logits
                    to_N_V = weight_N_V.mul_(-1 / total_N[:, None])
                    logits.copy_(to_N_V.scatter_add_(1, token[:, None], torch.ones_like(of_token_N)[:, None]))
            if learns:
                backs.append(back(logits_N_V))
        log_probability_N, entropy_N, mean_N, top_N = (torch.cat(part) for part in zip(*found, strict=True))
        ctx.save_for_backward(*backs)
        ctx.mark_non_differentiable(entropy_N, mean_N, top_N)
        return log_probability_N, entropy_N, mean_N, top_N

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Of what the last layer says."""
        to_N_C = torch.cat(ctx.saved_tensors)
        return (to_N_C * grads[0][:, None]).to(to_N_C.dtype), None, None, None


# Called as functions; torch gives `apply` no types. A fifth of the time of a small step goes into the call itself, so
# what does not learn uses the plain functions above.
norm: Callable[..., torch.Tensor] = _Norm.apply
turn: Callable[..., torch.Tensor] = _Turn.apply
gate: Callable[..., torch.Tensor] = _Gate.apply
attend: Callable[..., torch.Tensor] = _Attend.apply
adapted: Callable[..., torch.Tensor] = _Adapted.apply


def chosen(
    hidden_N_C: torch.Tensor, token_N: torch.Tensor, head: Product, back: Product | None
) -> tuple[torch.Tensor, ...]:
    """See `_Chosen`. Where no gradient is asked for, none is prepared, and `back` is not needed."""
    hidden_N_C = hidden_N_C if torch.is_grad_enabled() else hidden_N_C.detach()
    return _Chosen.apply(hidden_N_C, token_N, head, back)  # type: ignore[no-untyped-call, no-any-return]
