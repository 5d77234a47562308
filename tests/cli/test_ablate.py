"""`reidkit ablate` hands everything to its trainings, and says what cannot run before it starts."""

from market_folder import make_market_folder
from market_runs import call

from reidkit.training import RunFolder


def test_a_suite_means_what_train_means(data_root, tmp_path):
    """`ablate --set epochs=1 --set ide_init=false`: one epoch, no IDE."""
    result = call(
        "ablate",
        "mpn-table1",
        "--only",
        "baseline,mpn-no-ca",
        "--set",
        "epochs=1",
        "--set",
        "ide_init=false",
        "--preset",
        "smoke",
        "--size",
        "tiny",
        "--root",
        data_root,
        "--runs",
        tmp_path,
        "--seeds",
        1,
        "--no-progress",
        "--device",
        "cpu",
        "--no-cache",
        "--jobs",
        2,
    )
    assert result.exit_code == 0, result.output
    runs = sorted(p for p in tmp_path.iterdir() if p.is_dir())
    assert [RunFolder(p).read_settings()["variant"] for p in runs] == ["baseline", "mpn-no-ca"]
    for run in runs:
        settings = RunFolder(run).read_settings()
        assert settings["changes"] == {"epochs": 1, "ide_init": False}
        assert len(RunFolder(run).metrics.read_text().splitlines()) == 2


def test_a_suite_names_rows_that_cannot_run_before_it_starts(tmp_path, monkeypatch):
    root = make_market_folder(tmp_path / "a", train_ids=6)
    started = []
    monkeypatch.setattr("reidkit.training.suites._train_process", lambda path, arguments: started.append(path) or "")
    result = call(
        "ablate",
        "mpn-table1",
        "--only",
        "baseline,mpn",
        "--preset",
        "smoke",
        "--dataset",
        "market-layout",
        "--root",
        root,
        "--runs",
        tmp_path / "runs",
        "--seeds",
        1,
        "--no-progress",
    )
    assert result.exit_code == 1 and "1 runs finished, 1 failed" in result.output
    assert [p.name.split("-")[0] for p in started] == ["ide", "baseline"]


def test_a_suite_hands_everything_on(tmp_path, monkeypatch):
    root = make_market_folder(tmp_path / "a", train_ids=6)
    handed = []
    monkeypatch.setattr(
        "reidkit.training.suites._train_process", lambda path, arguments: handed.append(arguments) or ""
    )
    call(
        "ablate",
        "cgpn-table1",
        "--only",
        "ide",
        "--preset",
        "smoke",
        "--dataset",
        "market-layout",
        "--root",
        root,
        "--runs",
        tmp_path / "runs",
        "--seeds",
        1,
        "--compile",
        "--workers",
        3,
        "--prior-tool",
        "files",
        "--cache-dir",
        tmp_path / "c",
        "--evaluate-every",
        2,
        "--no-camera-rule",
        "--no-progress",
    )
    (arguments,) = handed
    line = " ".join(arguments)
    for part in (
        "--compile",
        "--workers 3",
        "--prior-tool files",
        f"--cache-dir {tmp_path / 'c'}",
        "--evaluate-every 2",
        "--set camera_rule=false",
    ):
        assert part in line
