#!/usr/bin/env python3
"""Tunes a student with Optuna: pip install optuna, then

    examples/optuna_tune.py config/medpix_small.yaml --trials 20 -n 2 --folder logs/tuning

Every trial is a run of launch/run.sh with other settings of the student and its loss. None of them changes the teacher,
so that all trials share one teacher and one cache of its outputs: the first trial makes them, also with --jobs 2, where
the second one waits. The dev score of every epoch is read from the run's events.jsonl while it trains; trials that are
worse than the median of the others at the same epoch are stopped.

The study is kept in FOLDER/study.db: the same command goes on. The best settings are printed as --set options.
"""
import argparse
import json
import pathlib
import signal
import subprocess
import sys
import time

import optuna

ROOT = pathlib.Path(__file__).resolve().parent.parent


def settings(trial):
    """What is searched. Only what leaves the teacher as it is (mmkd-ddp --dry-run shows which stages a key changes)."""
    return {
        "training.student_lr": trial.suggest_float("training.student_lr", 1e-4, 3e-3, log=True),
        "student.dropout": trial.suggest_float("student.dropout", 0.0, 0.4),
        "loss.type": trial.suggest_categorical("loss.type", ["vanilla", "combined", "rkd"]),
        "training.T": trial.suggest_float("training.T", 1.0, 8.0),
    }


class Epochs:
    """The student's epochs in an events.jsonl that is still being written."""

    def __init__(self, file):
        self.file = file
        self.read = 0
        self.scores = {}  # epoch -> mean macro F1 on dev; a resumed run may tell an epoch twice

    def update(self):
        """The epochs that are new."""
        if not self.file.exists():
            return []
        with open(self.file, "rb") as stream:
            stream.seek(self.read)
            text = stream.read()
        whole = text[: text.rfind(b"\n") + 1]
        self.read += len(whole)
        new = []
        for line in whole.splitlines():
            event = json.loads(line)
            if event["event"] == "epoch" and event["stage"] == "student":
                if event["epoch"] not in self.scores:
                    new.append(event["epoch"])
                self.scores[event["epoch"]] = event["dev_mean_f1"]
        return new


def run_trial(trial, options):
    log_dir = options.folder / f"trial-{trial.number}"
    command = [str(options.run), "-n", str(options.ranks), str(options.config)]
    chosen = {"logging.log_dir": log_dir, **settings(trial)}
    if options.artifacts:
        chosen["artifacts.root"] = options.artifacts
    for assignment in options.set + [f"{key}={value}" for key, value in chosen.items()]:
        command += ["--set", assignment]
    log_dir.mkdir(parents=True, exist_ok=True)
    epochs = Epochs(log_dir / "events.jsonl")
    with open(log_dir / "output.txt", "w") as output:
        job = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        while True:
            ended = job.poll() is not None
            for epoch in epochs.update():
                trial.report(epochs.scores[epoch], epoch)
                if not ended and trial.should_prune():
                    raise optuna.TrialPruned(f"after epoch {epoch}")
            if ended:
                break
            time.sleep(0.2)
    finally:
        if job.poll() is None:
            job.send_signal(signal.SIGTERM)  # the ranks end after the step they are in
            job.wait()
    if job.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {job.returncode}; see {log_dir / 'output.txt'}")
    # A student that was there already was not trained again: its epochs are in the metrics.
    if not epochs.scores:
        for row in json.loads((log_dir / "metrics.json").read_text()):
            scores = [value for key, value in row.items() if key.startswith("dev_") and key.endswith("_f1")]
            epochs.scores[row["epoch"]] = sum(scores) / len(scores)
    return max(epochs.scores.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=pathlib.Path)
    parser.add_argument("--trials", type=int, default=20, help="to have in all, those of earlier calls included")
    parser.add_argument("-n", "--ranks", type=int, default=1, help="of each run")
    parser.add_argument("--jobs", type=int, default=1, help="trials at a time")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("logs/tuning"))
    parser.add_argument("--artifacts", help="artifacts.root of all trials (default: beside FOLDER's parent)")
    parser.add_argument("--set", action="append", default=[], help="for every trial: --set data.root=DIR")
    parser.add_argument("--seed", type=int, default=0, help="of the sampler")
    parser.add_argument("--warmup-epochs", type=int, default=1, help="before a trial may be stopped")
    parser.add_argument("--run", type=pathlib.Path, default=ROOT / "launch" / "run.sh", help="the launcher")
    options = parser.parse_args()
    if options.artifacts is None:
        options.artifacts = str(options.folder.parent.parent / "artifacts")
    options.folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name="student",
        storage=f"sqlite:///{options.folder / 'study.db'}",
        load_if_exists=True,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=options.seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=options.warmup_epochs),
    )
    # What was running when an earlier call was stopped will not end any more.
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    finished = [optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED]
    missing = options.trials - len(study.get_trials(states=finished))
    if missing > 0:
        study.optimize(lambda trial: run_trial(trial, options), n_trials=missing, n_jobs=options.jobs)
    best = study.best_trial
    pruned = len(study.get_trials(states=[optuna.trial.TrialState.PRUNED]))
    print(f"{len(study.trials)} trials, {pruned} stopped early; best: trial {best.number}, dev F1 {best.value:.3f}")
    print(" ".join(f"--set {key}={value}" for key, value in best.params.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
