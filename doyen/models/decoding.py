"""Requests → tokens on a paged decoder: greedy, many texts at once, equal beginnings read once.

Enters: token ids. Leaves: the written ids with their signs. Knows no tokenizer and no grammar; what ends a text, and
what guides it, is handed in.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from doyen.models.guiding import Guide
from doyen.models.paged import BLOCK, PagedNetwork, Piece, block_keys
from doyen.models.rotary import Rotary

# A step reads at most so many tokens of prompts: an interruption waits no longer, and nothing is gained by more.
STEP_TOKENS = 1024
MOST_TEXTS = 64
LOSS_TOKENS = 256  # a row of logits a token: 50 MiB for a vocabulary of 50,000
# Guessed tokens of all texts in a step: with the written ones they fill one tile of 16 rows, which takes no longer.
GUESSES = 12
_MATCHED = (3, 2)


@dataclass(slots=True, eq=False)
class Request:
    """A prompt's tokens, and what becomes of them. `refusing` are the tokens that a refusal may begin with.

    A `guide` chooses the tokens. With `options` (token ids) nothing is written: each of them is read behind the prompt,
    and `option_log_probabilities` holds how likely it is.
    """

    number: int
    prompt: list[int]
    max_tokens: int
    refusing: Sequence[int] = ()
    may_refuse: bool = True
    certain: int = 0
    """Of how many written tokens, at most, the log-probabilities are kept, the end of the turn included."""
    guide: Guide | None = None
    options: Sequence[Sequence[int]] = ()
    option_log_probabilities: list[float] = field(default_factory=list)
    written: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    refusal: float | None = None
    seconds: float = 0.0
    """This text's share of its steps' wall time, by tokens."""
    cached: int = 0
    """Tokens of the prompt that had been read before."""
    blocks: list[int] = field(default_factory=list)
    read: int = 0
    long: bool = False
    keys: list[bytes] = field(default_factory=list)
    _after: dict[tuple[int, ...], int] = field(default_factory=dict)
    _indexed: int = 0

    def followed(self, most: int) -> list[int]:
        """Return up to `most` tokens that followed the last place in the text where its last tokens stood before."""
        tokens = self.tokens
        for end in range(self._indexed, len(tokens)):
            for size in _MATCHED:
                self._after[tuple(tokens[end - size : end])] = end
        self._indexed = len(tokens)
        for size in _MATCHED:
            if start := self._after.get(tuple(tokens[-size:])):
                return tokens[start : start + most]
        return []

    @property
    def tokens(self) -> list[int]:
        """The prompt and what is written."""
        return [*self.prompt, *self.written]

    @property
    def length(self) -> int:
        """How many tokens the prompt and what is written have."""
        return len(self.prompt) + len(self.written)


@dataclass(frozen=True, slots=True)
class _Turn:
    """What is read of a text in one step: `count` tokens of it, and guesses of what comes next."""

    request: Request
    count: int
    guessed: Sequence[int] = ()

    def piece(self) -> Piece:
        """Return the piece for the network."""
        request, end = self.request, self.request.read + self.count
        ids = request.written[-1:] if self.count == 1 and request.written else request.tokens[request.read : end]
        wanted = 1 + len(self.guessed)
        return Piece([*ids, *self.guessed], request.read, request.blocks, request.long, wanted)


@dataclass(slots=True)
class Work:
    """Requests that wait, in their order, and those whose texts are being read and written."""

    waiting: deque[Request] = field(default_factory=deque)
    running: list[Request] = field(default_factory=list)


class Decoder:
    """Runs requests on a network until each has written `max_tokens`, a stop token, or what `ends` calls an end."""

    def __init__(
        self, network: PagedNetwork, rotary: Rotary, stops: Sequence[int], ends: Callable[[Request], bool]
    ) -> None:
        self._network, self._rotary = network, rotary
        self._stops = frozenset(stops)
        self._ends = ends

    def run(
        self, requests: Sequence[Request], most_tokens: int, wrote: Callable[[Request], None] | None = None
    ) -> Iterator[Request]:
        """Yield requests as they end. `most_tokens` bounds the tokens of the texts at work; one is always taken.

        `wrote` is called after each written token. Leaving the iteration, or an interruption, frees all memory.
        """
        work = Work(deque(sorted(requests, key=lambda r: r.prompt)))  # those that begin alike stand together
        try:
            while work.waiting or work.running:
                yield from self.advance(work, most_tokens, wrote)
        finally:
            self.stop(work)

    def advance(
        self, work: Work, most_tokens: int, wrote: Callable[[Request], None] | None = None
    ) -> Iterator[Request]:
        """Take on what there is room for and do one step; yield the requests that ended by it.

        Between two calls requests may be added to `work.waiting`, or taken out with `drop`.
        """
        self._admit(work.waiting, work.running, most_tokens)
        for turn, logits in self._step(work.running) if work.running else ():
            if self._write(turn, logits, wrote):
                self.drop(work, turn.request)
                yield turn.request

    def drop(self, work: Work, request: Request) -> None:
        """Take a request out of the work, and free its memory."""
        if request in work.running:
            work.running.remove(request)
            self._release(request)
        elif request in work.waiting:
            work.waiting.remove(request)

    def stop(self, work: Work) -> None:
        """Take all requests out of the work."""
        for request in (*work.running, *work.waiting):
            self.drop(work, request)

    def _write(self, turn: _Turn, logits: NDArray[np.float32], wrote: Callable[[Request], None] | None) -> bool:
        """Write a token for each row of logits, as long as what was guessed for it is right; True: the text has ended."""
        request, read = turn.request, turn.request.read
        if request.options:
            return self._score_options(request, logits)
        for row, guess in zip(logits, [*turn.guessed, None], strict=True):
            tokens = self._choose(request, row)
            if wrote:
                wrote(request)
            if self._is_done(request):
                return True
            if tokens[0] != guess or request.read != read:
                return False
            request.read = read = read + 1  # the guess was the token, and is read already
            if len(tokens) > 1:  # forced ones stand behind it: they are read next
                return False
        return False

    def _score_options(self, request: Request, logits: NDArray[np.float32]) -> bool:
        """Note the log-probability of the option that was read; True: it was the last.

        Options of one token need no reading of their own: the first row is always what comes after the prompt.
        """
        scores = request.option_log_probabilities
        if request.refusing and not scores:
            request.refusal = float(np.exp(logits[0][request.refusing[0]] - _log_sum_exp(logits[0])))
        scores.append(_log_probability(logits, request.options[len(scores)]))
        while len(scores) < len(request.options) and len(request.options[len(scores)]) == 1:
            scores.append(_log_probability(logits, request.options[len(scores)]))
        if len(scores) == len(request.options):
            return True
        request.read -= 1  # the prompt's last token is read again, the next option behind it
        return False

    def loss(self, tokens: Sequence[int], first: int) -> float:
        """Return the summed negative log-likelihood (nats) of a text's tokens from number `first` on."""
        blocks = self._network.pool.take(-(-len(tokens) // BLOCK))
        assert blocks is not None, "room was not reserved"
        long, total = self._rotary.is_long(len(tokens)), 0.0
        try:
            for start in range(0, len(tokens) - 1, LOSS_TOKENS):
                ids = tokens[start : min(start + LOSS_TOKENS, len(tokens) - 1)]
                logits = self._network.step([Piece(ids, start, blocks, long, len(ids))])
                for row, position in enumerate(range(start + 1, start + 1 + len(ids))):
                    if position >= first:
                        total += _log_sum_exp(logits[row]) - float(logits[row, tokens[position]])
        finally:
            self._network.pool.release(blocks)
        return total

    def forced(self, prompt: Sequence[int], answer: Sequence[int]) -> NDArray[np.float32]:
        """Return the logits `(1 + len(answer), vocabulary) float32` after a prompt and each token of a given answer."""
        tokens = [*prompt, *answer]
        blocks = self._network.pool.take(-(-len(tokens) // BLOCK))
        assert blocks is not None, "room was not reserved"
        cuts = [*range(0, len(prompt), STEP_TOKENS), *range(len(prompt), len(tokens) + 1)]
        try:
            logits = [
                self._network.step([Piece(tokens[a:b], a, blocks, self._rotary.is_long(len(tokens)))])[0].copy()
                for a, b in pairwise(cuts)
            ]
        finally:
            self._network.pool.release(blocks)
        return np.stack(logits[-1 - len(answer) :])

    def _admit(self, waiting: deque[Request], running: list[Request], most_tokens: int) -> None:
        """Take on what there is room for, but nothing that begins with what another text is just reading."""
        used = sum(len(r.prompt) + r.max_tokens for r in running)
        being_read = {key for r in running for key in r.keys[r.read // BLOCK :]}
        while waiting and len(running) < MOST_TEXTS:
            request = waiting[0]
            used += len(request.prompt) + request.max_tokens
            if running and used > most_tokens or not self._begin(request, being_read):
                return
            running.append(waiting.popleft())
            being_read.update(request.keys[request.read // BLOCK :])

    def _begin(self, request: Request, being_read: set[bytes]) -> bool:
        """Give a request its blocks, those with its known beginning first; False: it has to wait."""
        pool = self._network.pool
        request.long = self._rotary.is_long(request.length)
        # Of the last token the logits are wanted: it is read even where all of the prompt is known.
        request.keys = block_keys(request.tokens[:-1], request.long)
        found = pool.find(request.keys)
        missing = request.keys[len(found) : len(found) + 1]
        fresh = None
        if not being_read.intersection(missing):
            fresh = pool.take(-(-(len(request.prompt) + request.max_tokens) // BLOCK) - len(found))
        if fresh is None:
            pool.release(found)
            return False
        request.blocks, request.read = [*found, *fresh], len(found) * BLOCK
        request.cached = max(request.cached, min(request.read, len(request.prompt)))
        return True

    def _release(self, request: Request) -> None:
        self._network.pool.release(request.blocks)
        request.blocks = []

    def _step(self, running: list[Request]) -> list[tuple[_Turn, NDArray[np.float32]]]:
        """Read one piece of each text, prompts within STEP_TOKENS; return those that came to new tokens, with logits."""
        started = time.perf_counter()
        turns = self._turns(running)
        logits = self._network.step([t.piece() for t in turns])
        ready, row = [], 0
        for turn in turns:
            self._note_blocks(turn.request, turn.count)
            rows = logits[row : row + 1 + len(turn.guessed)]
            row += len(rows)
            if turn.request.read == turn.request.length:
                ready.append((turn, rows))
        seconds = (time.perf_counter() - started) / sum(turn.count for turn in turns)
        for turn in turns:
            turn.request.seconds += seconds * turn.count
        return ready

    def _turns(self, running: list[Request]) -> list[_Turn]:
        room, guesses = STEP_TOKENS, GUESSES // len(running)
        turns = []
        for request in running:
            count = request.length - request.read
            if count == 1:
                turns.append(
                    _Turn(request, 1, _next_option(request) if request.options else self._guess(request, guesses))
                )
            elif room:
                part = min(count, room)
                turns.append(_Turn(request, part, _next_option(request) if part == count else ()))
                room -= part
        return turns

    def _guess(self, request: Request, most: int) -> list[int]:
        """Guess the next tokens: what followed where the last tokens stood before. Not beyond memory or a LongRoPE switch.

        Answers repeat passages. A right guess saves a step, a wrong one costs next to nothing: a step takes as long as
        reading the weights does (prompt lookup decoding; speculative decoding, arXiv 2211.17192, with greedy choice).
        """
        most = min(most, request.max_tokens - len(request.written) - 1)
        if self._rotary.switch is not None and not request.long:
            most = min(most, self._rotary.switch - request.length)
        return request.followed(most) if most > 0 else []

    def _note_blocks(self, request: Request, count: int) -> None:
        """Make whole blocks of the text findable, once they are read."""
        before, request.read = request.read, request.read + count
        for i in range(before // BLOCK, min(request.read // BLOCK, len(request.keys))):
            self._network.pool.note(request.blocks[i], request.keys[i])

    def _choose(self, request: Request, logits: NDArray[np.float32]) -> list[int]:
        """Write the likeliest token, or what the guide makes of it; note how sure it is, and how probable refusing was."""
        allowed = logits
        if request.refusing and not request.written:
            request.refusal = float(np.exp(logits[request.refusing[0]] - _log_sum_exp(logits)))
            if not request.may_refuse:
                allowed = logits.copy()
                allowed[list(request.refusing)] = -np.inf
        tokens = request.guide.write(allowed) if request.guide else [int(allowed.argmax())]
        if len(request.log_probabilities) < request.certain:
            sure = logits if request.guide else allowed
            request.log_probabilities.append(float(sure[tokens[0]] - _log_sum_exp(sure)))
        request.written += tokens
        return tokens

    def _is_done(self, request: Request) -> bool:
        """Whether a text has ended; one that grows beyond the LongRoPE switch is read anew, as transformers does."""
        if request.written[-1] in self._stops:
            request.written.pop()
            return True
        if len(request.written) >= request.max_tokens or self._ends(request):
            return True
        if self._rotary.is_long(request.length) != request.long:
            self._release(request)
            self._begin(request, set())  # the blocks just given back are there
        return False


def _next_option(request: Request) -> Sequence[int]:
    """Return what is to be read of the option whose turn it is: all but its last token; () for a request without."""
    return request.options[len(request.option_log_probabilities)][:-1] if request.options else ()


def _log_probability(logits: NDArray[np.float32], tokens: Sequence[int]) -> float:
    """Return the summed log-probability of tokens, by one row of logits each."""
    rows = zip(logits[: len(tokens)], tokens, strict=True)
    return sum(float(row[token]) - _log_sum_exp(row) for row, token in rows)


def _log_sum_exp(values: NDArray[np.float32]) -> float:
    largest = values.max()
    return float(largest + np.log(np.exp(values - largest).sum(dtype=np.float64)))
