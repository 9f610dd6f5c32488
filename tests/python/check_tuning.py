"""check_tuning.py TUNE RUN DEMO_DATA VOCABULARY: a few trials of examples/optuna_tune.py with the real Optuna share one
teacher and one cache, report the dev score of their epochs, and a second call has nothing left to do."""
import pathlib
import subprocess
import sys
import tempfile

try:
    import optuna
except ImportError:
    print("skipped: needs optuna (launch/requirements.txt)")
    sys.exit(0)

CONFIG = """\
data:
  {{type: table, root: {data}, batch_size: 32, num_workers: 1, max_length: 32, tasks: [shape, site],
   table: {{train: dev.jsonl, dev: test.jsonl}}}}
teacher: &model
  vision: {{family: vit, image_size: 64, patch_size: 16, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2}}
  text: {{family: bert, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2}}
  tokenizer: {vocabulary}
  fusion_dim: 32
  fusion_heads: 2
student: *model
training: {{teacher_epochs: 1, student_epochs: 3}}
evaluation: {{latency: false}}
"""


def main():
    tune, run, data, vocabulary = sys.argv[1:]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "job.yaml").write_text(CONFIG.format(data=data, vocabulary=vocabulary))
        command = [sys.executable, tune, "job.yaml", "--run", run, "-n", "1", "--folder", "logs/tuning"]
        first = subprocess.run(command + ["--trials", "5", "--jobs", "2"], cwd=folder, capture_output=True, text=True)
        assert first.returncode == 0, first.stdout + first.stderr
        for stage in ("pack", "teacher", "cache"):
            finished = list((folder / "artifacts" / stage).glob("*/stage.json"))
            assert len(finished) == 1, f"{stage}: {finished}\n{first.stderr}"
        study = optuna.load_study(study_name="student", storage=f"sqlite:///{folder}/logs/tuning/study.db")
        ended = [t for t in study.trials if t.state.name in ("COMPLETE", "PRUNED")]
        assert len(ended) == 5, [t.state for t in study.trials]
        assert all(t.intermediate_values for t in ended), [t.intermediate_values for t in ended]
        complete = [t for t in ended if t.state.name == "COMPLETE"]
        assert all(len(t.intermediate_values) == 3 for t in complete), [t.intermediate_values for t in complete]
        assert study.best_value == max(max(t.intermediate_values.values()) for t in complete)
        assert f"best: trial {study.best_trial.number}" in first.stdout, first.stdout
        second = subprocess.run(command + ["--trials", "5"], cwd=folder, capture_output=True, text=True)
        assert second.returncode == 0 and "5 trials" in second.stdout, second.stdout + second.stderr
        print(f"{len(complete)} trials complete, {5 - len(complete)} pruned, best {study.best_value:.3f}")


if __name__ == "__main__":
    main()
