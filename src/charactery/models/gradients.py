"""The parts of a decoder that autograd would put together from many small steps, each with its way back written out.

On a processor the small steps took as long as the matrix products. `tests/test_models_decoder.py` holds values and
gradients against transformers' own.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional

from charactery.models.lines import Batch

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
    # torch's own makes a tensor at each of eight steps
    return (x * _scale(x, epsilon)).mul_(weight).to(x.dtype)


def _scale(x: torch.Tensor, epsilon: float) -> torch.Tensor:
    """One over the root mean square of x (…, C): (…, 1), in float32 at least."""
    length: torch.Tensor = torch.linalg.vector_norm(
        x, dim=-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32)
    )
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


class _Attended(torch.autograd.Function):
    """What tokens hear of those before them: rotary positions, causal attention, from tokens to lines and back.

    One function of all, so that no part has to make a tensor of noughts for the gradient of what it reads a slice of,
    and what several lines have in common is added up alone.
    """

    @staticmethod
    def forward(
        ctx: Any, mixed: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, batch: Batch, heads: int,
        wanted: torch.Tensor | None,
    ) -> torch.Tensor:  # fmt: skip
        """Queries, keys and values side by side (N, S + 2 G, D), of the batch's distinct tokens: at the wanted of them,
        or all, (N, S * D). cos and sin as for `turned`. What is wanted is wanted once, and is not nothing."""
        groups = (mixed.shape[1] - heads) // 2
        parts = turned(mixed[:, :-groups], cos, sin), mixed[:, -groups:]
        heard, kept, ctx.counts = [], list[torch.Tensor](), []
        for lines in batch.lines:
            both, value = (batch.spread(part, lines).transpose(1, 2) for part in parts)
            out, *for_back = causal(both[:, :heads], both[:, heads:], value, keep=ctx.needs_input_grad[0])
            heard.append(out.transpose(1, 2))
            kept += for_back
            ctx.counts.append(len(for_back))
        ctx.save_for_backward(cos, sin, *kept)
        ctx.batch, ctx.heads, ctx.groups, ctx.wanted = batch, heads, groups, wanted
        return batch.gather(heard, wanted).flatten(1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Of queries, keys and values."""
        cos, sin, *kept = ctx.saved_tensors
        kept_of = [[kept.pop(0) for _ in range(count)] for count in ctx.counts]
        batch, heads, groups = ctx.batch, ctx.heads, ctx.groups
        grad_M_S_D = batch.gather_back(grads[0].view(len(grads[0]), heads, -1), ctx.wanted)
        to_M_S_D = grad_M_S_D.new_empty(len(grad_M_S_D), heads + 2 * groups, grad_M_S_D.shape[-1])
        for lines, here, of_lines in zip(batch.lines, batch.slices, kept_of, strict=True):
            grad, to = (
                t[here].view(*lines.index_B_L.shape, *t.shape[1:]).transpose(1, 2) for t in (grad_M_S_D, to_M_S_D)
            )
            query, key, value, *weights = of_lines
            to_query, to_key, to_value = torch.split(to, [heads, groups, groups], 1)
            _attend_back(grad, query, key, value, weights, to_query, to_key, to_value)
        to_N_S_D = batch.spread_back(to_M_S_D)
        both = to_N_S_D[:, :-groups]
        both.copy_(turned(both, cos, -sin))
        return to_N_S_D, *[None] * 5


def causal(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, before: Sequence[torch.Tensor] = (), keep: bool = False
) -> tuple[torch.Tensor, ...]:
    """Causal attention of rows without padding before their tokens, by products; heads of a group share their keys.

    query is (B, S, L, D), key and value are (B, G, L, D); `before` are keys and values, (1, G, P, D), that come before
    those of all rows. Returns (B, S, L, D), and what the way back asks for. That of torch's fused attention takes three
    times as long on a processor for rows of a hundred tokens.
    """
    rows, heads, length, width = query.shape
    past = before[0].shape[2] if before else 0
    over = key.new_zeros(1, 1, 1, 1).expand(rows, key.shape[1], -(past + length) % WHOLE, width)
    olds = [old.expand(rows, -1, -1, -1) for old in before] or [key[:, :, :0]] * 2
    key, value = (torch.cat([old, own, over], 2) for old, own in zip(olds, (key, value), strict=True))
    query = query * width**-0.5
    out = query.new_empty(rows, length, heads, width).transpose(1, 2)  # laid out as tokens are
    weights = []
    later = query.new_full((QUERIES, QUERIES + WHOLE), -math.inf).triu_(1)
    for some, here, end in _blocks(rows, heads, length, past):
        count, ahead = here.stop - here.start, past + here.start
        key_R_K_D, value_R_K_D = key[some, :, :end].flatten(0, 1), value[some, :, :end].flatten(0, 1)
        query_R_N_D = query[some, :, here].reshape(len(key_R_K_D), -1, width)
        score = torch.bmm(query_R_N_D, key_R_K_D.transpose(1, 2)).view(-1, heads, count, end)
        score[..., ahead:] += later[:count, : end - ahead]
        weight_R_N_K = torch.softmax(score, -1).view(len(key_R_K_D), -1, end)
        out[some, :, here] = torch.bmm(weight_R_N_K, value_R_K_D).view(-1, heads, count, width)
        if keep:  # they take as much room as the square of the length
            weights.append(weight_R_N_K)
    return out, query, key, value, *weights


def _attend_back(
    grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, weights: Sequence[torch.Tensor],
    to_query: torch.Tensor, to_key: torch.Tensor, to_value: torch.Tensor,
) -> None:  # fmt: skip
    """The way back of `causal` with nothing before, into the last three."""
    rows, heads, length, width = query.shape
    sums = torch.empty_like(key), torch.empty_like(value)
    for weight_R_N_K, (some, here, end) in zip(weights, _blocks(rows, heads, length), strict=True):
        key_R_K_D, value_R_K_D = (t[some, :, :end].flatten(0, 1) for t in (key, value))
        grad_R_N_D, query_R_N_D = (t[some, :, here].reshape(len(key_R_K_D), -1, width) for t in (grad, query))
        to_weight = torch.bmm(grad_R_N_D, value_R_K_D.transpose(1, 2))
        to_score = torch._softmax_backward_data(to_weight, weight_R_N_K, -1, weight_R_N_K.dtype)
        for total, factor, other in zip(sums, (to_score, weight_R_N_K), (query_R_N_D, grad_R_N_D), strict=True):
            part, whole = total[some, :, :end], factor.transpose(1, 2)
            if here.stop == length:  # the first of these rows, and of all their keys
                torch.bmm(whole, other, out=part.view(-1, end, width))
            else:
                part += torch.bmm(whole, other).view(part.shape)
        heard = torch.bmm(to_score, key_R_K_D).mul_(width**-0.5)
        to_query[some, :, here] = heard.view(-1, heads, here.stop - here.start, width)
    for to, total in zip((to_key, to_value), sums, strict=True):
        to.copy_(total[:, :, :length])


def _blocks(rows: int, heads: int, length: int, past: int = 0) -> Iterator[tuple[slice, slice, int]]:
    """Rows, and positions in them, whose scores stay in a processor's cache from product to product, and how many keys
    these look at; the last positions of rows first, which look at all."""
    together = max(1, SCORES // (heads * min(length, QUERIES) * (past + length)))
    for first in range(0, rows, together):
        for start in reversed(range(0, length, QUERIES)):
            stop = min(start + QUERIES, length)
            end = -(-(past + stop) // WHOLE) * WHOLE
            yield slice(first, min(first + together, rows)), slice(start, stop), end


class _Adapted(torch.autograd.Function):
    """A product with weights that do not learn and, beside it, an adapter that does (Hu et al. 2021, arXiv 2106.09685).

    Backwards the product is that with the weights' transpose.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, there: Product, back: Product, down: torch.Tensor | None = None,
        up: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """x (N, C), `down` (R, C) and `up` (S, R), the scale in it. Returns (N, S)."""
        ctx.back = back
        out, heard = there(x), None
        if down is not None and up is not None:
            heard = functional.linear(x, down)
            out.addmm_(heard, up.t())
        ctx.save_for_backward(x, down, up, heard)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Of x, down and up."""
        x, down, up, heard = ctx.saved_tensors
        grad = grads[0].contiguous()
        to_x = ctx.back(grad) if ctx.needs_input_grad[0] else None
        if down is None:
            return to_x, None, None, None, None
        to_heard = grad @ up
        if to_x is not None:
            to_x.addmm_(to_heard, down)
        return to_x, None, None, to_heard.t() @ x, (heard.t() @ grad).t()


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
attended: Callable[..., torch.Tensor] = _Attended.apply
adapted: Callable[..., torch.Tensor] = _Adapted.apply


def chosen(
    hidden_N_C: torch.Tensor, token_N: torch.Tensor, head: Product, back: Product | None
) -> tuple[torch.Tensor, ...]:
    """See `_Chosen`. Where no gradient is asked for, none is prepared, and `back` is not needed."""
    hidden_N_C = hidden_N_C if torch.is_grad_enabled() else hidden_N_C.detach()
    return _Chosen.apply(hidden_N_C, token_N, head, back)  # type: ignore[no-untyped-call, no-any-return]
