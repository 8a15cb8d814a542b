"""What a search prints."""

import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import finished
import pytest
import scene
from terminal import Terminal

from tune.console import Console, Script
from tune.history import History
from tune.lines import block, resume_command
from tune.registry import Outcome
from tune.standing import Standing

OUTCOME = Outcome("gsda-glyph31-W2D", "3", True, "version 3 is the champion")
URI = "sqlite:////some/where/mlflow.db"


@pytest.fixture(autouse=True)
def size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the terminals that are pretended."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "40")
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return finished.noted(tmp_path_factory.mktemp("console"))


def play(stream: io.StringIO, events: list[dict[str, Any]], start: int = 1) -> History:
    """Show a search; the events before `start` were there before."""
    console, history = Console(stream), History.of(events[:start])
    console.begin(history, "cpu", 2)
    for event in events[start:]:
        history.apply(event)
        console.event(event, history)
    console.finish(history, history.best(scene.METRIC), OUTCOME, "", URI)
    return history


def test_the_first_lines_say_what_is_run_on_what(events: list[dict[str, Any]]) -> None:
    stream = io.StringIO()
    play(stream, events)
    assert stream.getvalue().splitlines()[:3] == [
        "Search scene: glyph31/W2D, built-in drawn letters; not Office-31",
        "  795 labelled images of W, 498 unlabelled images of D, 31 classes; backbone cnn, "
        "18 steps of 4 + 4 images",
        "  14 trials (2 reference, 12 searched), 2 at a time on cpu; searching alpha, beta, "
        "n_groups, tau by val/bnm",
    ]


def test_without_a_terminal_there_is_a_line_for_each_trial(events: list[dict[str, Any]]) -> None:
    stream = io.StringIO()
    history = play(stream, events)
    text = stream.getvalue()
    assert "\x1b" not in text
    assert "\r" not in text
    lines = [
        line
        for line in text.splitlines()
        if re.match(r"  trial +\d+ (finished|stopped|failed) ", line)
    ]
    assert len(lines) == 14
    assert "[1/14, about " in lines[0]
    assert " left]" in lines[0]
    assert lines[0].startswith("  trial   0 finished       val/bnm 0.")
    assert "reference: source-only" in lines[0]
    assert "[14/14]" in lines[-1]
    assert "  trial   1 note: something was odd" in text
    for trial in history.in_state("FAILED"):
        assert f"  trial {trial.number} failed, non-finite: it broke down at step 4" in text
    assert all(len(line) < 200 for line in text.splitlines())


def test_on_a_terminal_a_block_is_drawn_over(events: list[dict[str, Any]]) -> None:
    """Half-way, the screen shows the opening and the block, once; at the end the block is gone."""
    ends = [position for position, event in enumerate(events) if event["event"] == "end"]
    stream = Terminal(80)
    console, history = Console(stream), History.of(events[:1])
    console.begin(history, "cpu", 2)
    for event in events[1 : ends[6]]:
        history.apply(event)
        console.event(event, history)
    shown = stream.shown()
    assert all(len(line) < 80 for line in shown)
    assert [line for line in shown if re.match(r"  \[#{8}\.{12}\] 6/14 trials, about \d", line)]
    assert sum("running  trial   6" in line for line in shown) == 1
    assert sum("best so far" in line for line in shown) == 1
    assert [line.split()[:3] for line in shown if "source-only" in line] == [
        ["source-only", "0", f"{history.trials[0].final[scene.METRIC]:.4f}"]
    ]
    failed = [line for line in shown if "failed, non-finite: it broke down at step 4" in line]
    assert len(failed) == len(history.in_state("FAILED"))
    for event in events[ends[6] :]:
        history.apply(event)
        console.event(event, history)
    console.finish(history, history.best(scene.METRIC), OUTCOME, "", URI)
    shown = stream.shown()
    assert not [line for line in shown if "best so far" in line or "running" in line]
    assert "  trial   1 note: something was odd" in shown


def test_a_narrow_terminal_gets_whole_columns(events: list[dict[str, Any]]) -> None:
    history, standing = Standing.of(events)
    for width in (30, 46, 79):
        shown = block(history, standing, events[-1]["time"], width)
        head = next(line for line in shown if "trial  val/bnm" in line)
        assert len(head) <= max(width, 36)
        assert head.split() == ["trial", "val/bnm", "accuracy", *scene.FIELDS][: len(head.split())]
    assert head.split()[-1] == "tau"


def test_what_takes_a_while_is_said_on_a_terminal_alone() -> None:
    plain, live = io.StringIO(), Terminal()
    for stream in (plain, live):
        Console(stream).wait("Starting ...")
    assert plain.getvalue() == ""
    assert live.shown() == ["Starting ..."]
    live = Terminal()
    console = Console(live)
    console.wait("Starting ...")
    console.close()
    assert live.shown() == [""]


def test_a_script_is_told_what_was_delivered(events: list[dict[str, Any]]) -> None:
    stream = io.StringIO()
    Script(stream).flushed(History.of(events), OUTCOME, "3 events of 7", True)
    told = json.loads(stream.getvalue())
    assert (told["event"], told["owed"], told["is_over"]) == ("flushed", "3 events of 7", True)
    assert told["model"]["version"] == "3"


def test_quiet_and_dumb_terminals_get_plain_lines(
    events: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Terminal()
    history = History.of(events[:1])
    console = Console(stream, quiet=True)
    console.begin(history, "cpu", 2)
    monkeypatch.setenv("TERM", "dumb")
    for other in (console, Console(stream)):
        other.event(
            events[1] | {"event": "fault", "reason": "gone", "trial": 0}, History.of(events)
        )
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().count("  trial   0 put back: gone\n") == 2


def test_both_show_the_same_table(
    events: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    plain, live = io.StringIO(), Terminal(200)
    play(plain, events)
    play(live, events)
    cut = "Best by val/bnm"
    last = "\n".join(live.shown())
    assert plain.getvalue().partition(cut)[2].rstrip() == last.partition(cut)[2].rstrip()
    assert last.count(cut) == 1


def test_a_script_reads_one_object_a_line(events: list[dict[str, Any]]) -> None:
    stream, history = io.StringIO(), History.of(events[:1])
    console = Script(stream)
    console.preparing(1, 2)
    console.preparing(2, 2)
    console.say("a remark")
    console.begin(history, "cpu", 2)
    for event in events[1:]:
        history.apply(event)
        console.event(event, history)
    console.finish(history, history.best(scene.METRIC), OUTCOME, "", URI)
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    kinds = [one["event"] for one in told]
    assert kinds[:3] == ["prepared", "note", "begin"]
    assert kinds[-1] == "result"
    assert set(kinds[3:-1]) == {"report", "end"}
    ends = [one for one in told if one["event"] == "end"]
    assert [one["trial"] for one in ends] == [e["trial"] for e in events if e["event"] == "end"]
    failed = next(one for one in ends if one["state"] == "failed")
    assert failed["reason"] == "it broke down at step 4"
    notes = [one.get("notes") for one in told if one["event"] == "report" and one["trial"] == 1]
    assert ["something was odd"] in notes
    result, best = told[-1], history.best(scene.METRIC)
    assert best is not None
    assert result["state"] == "done"
    assert result["best"]["trial"] == best.number
    assert result["best"]["value"] == best.value(scene.METRIC)
    assert result["trials"]["total"] == 14
    assert result["model"]["uri"] == "models:/gsda-glyph31-W2D@champion"


def test_a_script_is_told_how_to_go_on(events: list[dict[str, Any]]) -> None:
    stream = io.StringIO()
    console = Script(stream, ["--storage", "my place"])
    console.broken(History.of(events[:20]), OSError("no space left"), "see error.txt")
    (told,) = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (told["event"], told["state"]) == ("result", "interrupted")
    assert told["why"].startswith("Stopped by OSError: no space left")
    assert told["resume"].endswith("--storage 'my place' --resume")


def test_the_end_gives_the_exact_commands(events: list[dict[str, Any]]) -> None:
    stream = io.StringIO()
    play(stream, events)
    assert stream.getvalue().splitlines()[-5:] == [
        "Model gsda-glyph31-W2D: version 3 is the champion.",
        f"  Compare:  mlflow ui --backend-store-uri {URI}",
        "  Open:     http://127.0.0.1:5000",
        "  Extend:   python tune/search.py --task glyph31/W2D --name scene --resume --trials 24",
        "  Use:      python -m gsda predict models:/gsda-glyph31-W2D@champion "
        "--tracking-uri sqlite:////some/where/mlflow.db IMAGES",
    ]


def test_the_default_store_need_not_be_named(
    events: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    stream, history = io.StringIO(), History.of(events)
    uri = f"sqlite:///{tmp_path.resolve() / 'mlflow.db'}"
    Console(stream).finish(history, history.best(scene.METRIC), OUTCOME, "", uri)
    assert stream.getvalue().endswith("models:/gsda-glyph31-W2D@champion IMAGES\n")


def test_who_is_no_champion_is_used_by_its_version(events: list[dict[str, Any]]) -> None:
    stream = io.StringIO()
    history = History.of(events)
    other = Outcome("gsda-glyph31-W2D", "4", False, "version 4 registered; champion is version 3")
    console = Console(stream)
    console.finish(history, history.best(scene.METRIC), other, "", "http://mlflow:5000")
    text = stream.getvalue()
    assert "models:/gsda-glyph31-W2D/4 --tracking-uri http://mlflow:5000 IMAGES" in text
    assert "  Compare:  http://mlflow:5000" in text


def test_passwords_are_not_shown(events: list[dict[str, Any]]) -> None:
    stream, history = io.StringIO(), History.of(events)
    uri = "http://me:secret@mlflow:5000"
    Console(stream).finish(history, history.best(scene.METRIC), OUTCOME, "", uri)
    assert "secret" not in stream.getvalue()
    assert "http://mlflow:5000" in stream.getvalue()


def test_what_is_owed_is_told_with_its_cure(events: list[dict[str, Any]]) -> None:
    stream = io.StringIO()
    history = History.of(events)
    console = Console(stream, ["--tracking-uri", "http://mlflow:5000"])
    console.finish(history, history.best(scene.METRIC), None, "the best model: refused", URI)
    text = stream.getvalue()
    assert "MLflow is owed the best model: refused\n" in text
    assert (
        "  Deliver:  python tune/search.py --name scene --tracking-uri http://mlflow:5000" in text
    )
    assert "http://mlflow:5000 --flush\n" in text
    assert "Use:" not in text


def test_a_search_without_a_model_says_so() -> None:
    stream = io.StringIO()
    spec = scene.make_spec(scene.small_config(), 3)
    history = History(spec=spec, uuid="u")
    Console(stream).finish(history, None, None, "", URI)
    assert "No trial finished, so there is no model." in stream.getvalue()
    assert "owed" not in stream.getvalue()


def test_a_resumed_search_tells_what_was_done_before(events: list[dict[str, Any]]) -> None:
    ends = [position for position, event in enumerate(events) if event["event"] == "end"]
    stream = io.StringIO()
    play(stream, events, start=ends[4] + 1)
    text = stream.getvalue()
    assert "(2 reference, 12 searched, 5 of them done before), 2 at a time" in text
    lines = [
        line
        for line in text.splitlines()
        if re.match(r"  trial +\d+ (finished|stopped|failed) ", line)
    ]
    assert len(lines) == 9
    assert "[6/14, about " in lines[0]


def test_a_search_with_nothing_left_to_run(events: list[dict[str, Any]]) -> None:
    stream = io.StringIO()
    Console(stream).begin(History.of(events), "cpu", 0)
    assert stream.getvalue().splitlines()[-1] == "  all trials are finished already"


def test_an_interruption_gives_the_command_to_go_on(events: list[dict[str, Any]]) -> None:
    for stream in (io.StringIO(), Terminal()):
        history = History.of(events[:20])
        Console(stream, ["--storage", "my place"]).interrupted(history, "Interrupted")
        said = stream.getvalue().splitlines()
        done = len([e for e in events[:20] if e["event"] == "end"])
        assert said[0] == f"Interrupted, with {done} of 14 trials done."
        assert said[1] == "Nothing is lost. Go on with:"
        assert said[2] == (
            "  python tune/search.py --task glyph31/W2D --name scene --storage 'my place' --resume"
        )


def test_what_nobody_foresaw_is_a_line_and_not_a_traceback(events: list[dict[str, Any]]) -> None:
    stream = io.StringIO()
    error = OSError("no space left\nand more")
    Console(stream).broken(History.of(events[:20]), error, "see error.txt")
    first = stream.getvalue().splitlines()[0]
    assert first.startswith("Stopped by OSError: no space left (see error.txt), with ")
    assert "and more" not in stream.getvalue()
    assert "Go on with:" in stream.getvalue()


def test_faults_and_collapses_are_told(events: list[dict[str, Any]]) -> None:
    stream, history = io.StringIO(), History.of(events)
    console = Console(stream)
    console.event({"event": "fault", "trial": 3, "reason": "its worker died"}, history)
    assert stream.getvalue() == "  trial   3 put back: its worker died\n"
    end = next(e for e in events if e["event"] == "end" and e["trial"] == 0)
    history.trials[0].reports[18] |= {"predicted/effective_classes": 2.5}
    console.event(end, history)
    assert "spread over about 2.5 of 31 classes (a collapse" in stream.getvalue().splitlines()[-1]


def test_without_a_terminal_a_long_silence_is_broken(
    events: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, history = io.StringIO(), History.of(events[:20])
    console = Console(stream)
    report = next(e for e in events if e["event"] == "report")
    console.event(report, history)
    assert stream.getvalue() == ""
    monkeypatch.setattr("tune.console.QUIET_S", -1.0)
    console.event(report, history)
    assert re.match(r"  \d+/14 trials \| \d running", stream.getvalue())


def test_resuming_names_the_data_and_quotes_it() -> None:
    spec = scene.make_spec(scene.small_config(), 3)
    spec["data"] = spec["data"] | {"root": "/my images"}
    words = shlex.split(resume_command(spec))
    assert words[words.index("--data") + 1] == "/my images"


def test_preparing_images_is_shown() -> None:
    plain, live = io.StringIO(), Terminal()
    for stream in (plain, live):
        console = Console(stream)
        for done in range(4):
            console.preparing(done, 3)
        console.say("next")
    assert plain.getvalue() == "Prepared 3 images.\nnext\n"
    assert "Preparing images: 2/3" in live.getvalue()
    assert live.shown() == ["next"]
