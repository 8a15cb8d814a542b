"""Endless, seeded, resumable batches."""

from collections import Counter
from io import BytesIO

import pytest
import torch
from torch import Tensor

from gsda.data.sampling import Cycle, class_balanced, hold_out, uniform

LABELS = torch.tensor([0] * 7 + [2] * 3 + [1] * 1 + [-1] * 4)


def test_uniform_takes_each_image_once_a_pass() -> None:
    cycle = Cycle(uniform(10), seed=0)
    passes = [cycle.take(10) for _ in range(3)]
    assert all(sorted(order.tolist()) == list(range(10)) for order in passes)
    assert len({tuple(order.tolist()) for order in passes}) == 3


def test_batches_of_any_size_walk_the_same_order() -> None:
    whole = Cycle(uniform(10), seed=0).take(40)
    cycle = Cycle(uniform(10), seed=0)
    parts = [cycle.take(n) for n in (3, 3, 3, 3, 1, 27)]
    assert [len(part) for part in parts] == [3, 3, 3, 3, 1, 27]
    assert torch.equal(torch.cat(parts), whole)


def test_a_batch_may_be_larger_than_the_data() -> None:
    taken = Cycle(uniform(3), seed=0).take(10)
    counts = Counter(taken.tolist())
    assert sorted(counts.values()) == [3, 3, 4]


def test_orders_are_a_function_of_the_seed() -> None:
    def first(seed: int) -> list[int]:
        return Cycle(uniform(50), seed).take(50).tolist()

    assert first(0) == first(0)
    assert first(0) != first(1)


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    Cycle(class_balanced(LABELS), seed=0).take(100)
    assert bool((torch.get_rng_state() == before).all())


def test_class_balanced_takes_classes_equally_often_and_leaves_out_the_unlabelled() -> None:
    taken = Cycle(class_balanced(LABELS), seed=0).take(21)
    counts = Counter(taken.tolist())
    assert Counter(LABELS[taken].tolist()) == {0: 7, 1: 7, 2: 7}
    assert all(counts[i] == 1 for i in range(7))
    assert sorted(counts[i] for i in range(7, 10)) == [2, 2, 3]
    assert counts[10] == 7


def test_class_balanced_mixes_the_classes() -> None:
    taken = Cycle(class_balanced(LABELS), seed=0).take(21)
    labels = LABELS[taken].tolist()
    assert labels != sorted(labels)
    assert len(set(labels[:7])) > 1


def test_class_balanced_varies_which_image_is_taken_more_often() -> None:
    cycle = Cycle(class_balanced(LABELS), seed=0)
    favourites = {
        i for _ in range(30) for i, n in Counter(cycle.take(21).tolist()).items() if n == 3
    }
    assert favourites == {7, 8, 9}


def test_only_images_with_a_label_can_be_balanced() -> None:
    taken = Cycle(class_balanced(torch.tensor([-1, 4, -1, -1])), seed=0).take(5)
    assert taken.tolist() == [1] * 5


def test_the_same_share_of_each_class_is_held_out() -> None:
    labels = torch.tensor([2] * 10 + [0] * 20 + [1] * 5)
    held = hold_out(labels, 0.2, seed=0)
    assert held.tolist() == sorted(set(held.tolist()))
    assert Counter(labels[held].tolist()) == {0: 4, 1: 1, 2: 2}


def test_every_class_keeps_an_image_and_lends_one() -> None:
    labels = torch.tensor([0, 1, 1, 2, 2, 2])
    assert Counter(labels[hold_out(labels, 0.01, seed=0)].tolist()) == {1: 1, 2: 1}
    assert Counter(labels[hold_out(labels, 0.99, seed=0)].tolist()) == {1: 1, 2: 2}


def test_what_is_held_out_is_a_function_of_the_seed() -> None:
    labels = torch.arange(4).repeat(50)
    first = hold_out(labels, 0.3, seed=1)
    assert torch.equal(first, hold_out(labels, 0.3, seed=1))
    assert not torch.equal(first, hold_out(labels, 0.3, seed=2))


def test_a_share_of_0_holds_nothing_out() -> None:
    assert hold_out(torch.tensor([0, 0, 1]), 0.0, seed=0).tolist() == []


def through_file(state: dict[str, object]) -> dict[str, Tensor]:
    buffer = BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    loaded: dict[str, Tensor] = torch.load(buffer, weights_only=True)
    return loaded


@pytest.mark.parametrize("taken", [0, 4, 10, 13, 20, 25])
def test_a_cycle_goes_on_to_the_exact_image(taken: int) -> None:
    cycle = Cycle(uniform(10), seed=3)
    for _ in range(taken):
        cycle.take(1)
    resumed = Cycle(uniform(10), seed=99)
    resumed.load_state_dict(through_file(cycle.state_dict()))
    assert torch.equal(resumed.take(37), cycle.take(37))


def test_state_is_not_moved_by_what_is_taken_after_it() -> None:
    cycle = Cycle(uniform(10), seed=3)
    cycle.take(4)
    state = cycle.state_dict()
    expected = cycle.take(30)
    cycle.load_state_dict(state)
    assert torch.equal(cycle.take(30), expected)


def test_state_does_not_grow_with_the_data() -> None:
    def size(n: int) -> int:
        buffer = BytesIO()
        torch.save(Cycle(uniform(n), seed=0).state_dict(), buffer)
        return len(buffer.getvalue())

    assert size(100_000) == size(10)


def test_redrawing_starts_a_fresh_pass_and_can_be_resumed() -> None:
    cycle = Cycle(uniform(10), seed=0)
    cycle.take(4)
    cycle.redraw(class_balanced(torch.tensor([0, 1, 1, -1])))
    assert sorted(set(cycle.take(4).tolist())) == [0, 1, 2]
    cycle.take(3)
    resumed = Cycle(uniform(10), seed=0)
    resumed.redraw(class_balanced(torch.tensor([0, 1, 1, -1])))
    resumed.load_state_dict(through_file(cycle.state_dict()))
    assert torch.equal(resumed.take(30), cycle.take(30))
