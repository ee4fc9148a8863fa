#!/usr/bin/env python3
"""torpor-lab train as a user runs it: TORPOR_LAB TORPOR TEXT. A run that is killed again and again ends with the losses of one
that was not; the result works in `torpor eval` and `torpor profile`; bad input is one clear line."""
import csv
import json
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import time
import unittest

LAB, TORPOR, TEXT = sys.argv[1:4]


def call(*arguments):
    return subprocess.run([str(a) for a in arguments], capture_output=True, text=True, timeout=200)


class Train(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name)

    def tearDown(self):
        self.folder.cleanup()

    def test_two_hundred_steps_from_scratch_and_then_profile(self):
        out = self.path / "model"
        done = call(LAB, "train", "--preset", "relu2-5m", "--text", TEXT, "--held-out", TEXT, "--steps", 200, "--batch", 2,
                    "--window", 64, "--held-out-windows", 20, "-o", out, "--json", "-q")
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(done.stdout)
        self.assertEqual(result["tokens"], 200 * 2 * 64)
        self.assertLess(result["held_out_bits_per_byte"], 4)
        rows = (out / "log.csv").read_text().splitlines()
        self.assertEqual(len(rows), 201)
        self.assertTrue({"config.json", "model.safetensors", "tokenizer.json", "train.json", "manifest.json"} <=
                        {p.name for p in out.iterdir()})
        done = call(TORPOR, "eval", out, "--text", TEXT, "--window", 64, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertAlmostEqual(json.loads(done.stdout)["bits_per_byte"], result["held_out_bits_per_byte"], delta=0.15)
        done = call(TORPOR, "profile", out, "--text", TEXT, "-o", self.path / "profile", "-q")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_killed_at_any_moment_it_goes_on_to_the_same_losses(self):
        options = ["--preset", "relu2-tiny", "--text", TEXT, "--held-out", TEXT, "--steps", 150, "--checkpoint-every", 10,
                   "--evaluate-every", 25, "--held-out-windows", 8, "--threads", 1, "-q"]
        done = call(LAB, "train", *options, "-o", self.path / "whole")
        self.assertEqual(done.returncode, 0, done.stderr)
        kills, steps = 0, set()
        for attempt in range(60):
            process = subprocess.Popen([LAB, "train", *map(str, options), "-o", self.path / "parts", "--resume"],
                                       stderr=subprocess.PIPE, text=True)
            try:
                process.wait(timeout=0.9 + 0.23 * attempt)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
                steps.update(p.name for p in (self.path / "parts").glob("checkpoint-0*"))
                process.stderr.close()
                continue
            self.assertEqual(process.returncode, 0, process.stderr.read())
            process.stderr.close()
            break
        self.assertGreaterEqual(kills, 1, "nothing was killed")
        self.assertEqual((self.path / "parts/log.csv").read_bytes(), (self.path / "whole/log.csv").read_bytes())
        self.assertEqual((self.path / "parts/model.safetensors").read_bytes(),
                         (self.path / "whole/model.safetensors").read_bytes())

    def test_ctrl_c_writes_a_checkpoint_and_says_how_to_go_on(self):
        out = self.path / "run"
        process = subprocess.Popen([LAB, "train", "--preset", "relu2-tiny", "--text", TEXT, "--steps", "100000", "-q", "-o", out],
                                   stderr=subprocess.PIPE, text=True)
        for _ in range(200):
            time.sleep(0.1)
            if list(out.glob("checkpoint-0*")):
                break
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
        self.assertEqual(process.returncode, 1)
        self.assertIn("--resume", error)
        (checkpoint,) = out.glob("checkpoint-0*")
        self.assertIn(f"after step {int(checkpoint.name[-8:])};", error)

    def test_a_disk_that_fills_up_costs_nothing_that_was_there(self):
        options = ["--preset", "relu2-tiny", "--text", TEXT, "--steps", 100000, "--checkpoint-every", 20, "-q", "-o", self.path / "run"]
        # What is too large for the limit fails as on a full disk; the signal that comes first is ignored.
        process = subprocess.Popen([LAB, "train", *map(str, options)], stderr=subprocess.PIPE, text=True,
                                   preexec_fn=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN))
        for _ in range(600):
            if list((self.path / "run").glob("checkpoint-0*")):
                break
            time.sleep(0.02)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
        error = process.communicate(timeout=60)[1]
        self.assertEqual(process.returncode, 1, error)
        self.assertEqual(len(error.splitlines()), 1, error)
        self.assertRegex(error, r"run/checkpoint-unfinished/\S+.*File too large")
        (checkpoint,) = (self.path / "run").glob("checkpoint-0*")
        done = call(LAB, "train", *options[:4], "--steps", int(checkpoint.name[-8:]), "--checkpoint-every", 20, "-q", "-o", self.path / "run",
                    "--resume")
        self.assertNotIn("checkpoint", done.stdout)
        self.assertEqual(done.returncode, 3, "steps decide the learning rate")
        self.assertIn("expected the options of the run that it continues: steps was 100000", done.stderr, "it can be read")

    def test_a_vocabulary_is_trained_kept_and_never_written_over(self):
        out = self.path / "pieces"
        options = ["--preset", "relu2-tiny", "--text", TEXT, "--held-out", TEXT, "--window", 32, "--steps", 12, "--held-out-windows", 4,
                   "--vocab-size", 400, "-q", "-o", out]
        done = call(LAB, "train", *options)
        self.assertEqual(done.returncode, 0, done.stderr)
        model = (out / "tokenizer.model").read_bytes()
        self.assertEqual(json.loads((out / "config.json").read_text())["vocab_size"], 400)
        done = call(TORPOR, "eval", out, "--text", TEXT, "--window", 32, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        other = self.path / "other.txt"
        other.write_text("Another text with other words, again and again. " * 200)
        done = call(LAB, "train", *[other if o == TEXT else o for o in options])
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("--resume", done.stderr)
        self.assertEqual((out / "tokenizer.model").read_bytes(), model, "a refused run changes the model")
        done = call(LAB, "train", *options, "--resume")
        self.assertEqual(done.returncode, 0, done.stderr)
        done = call(LAB, "train", *options, "--tokenizer", out)
        self.assertEqual(done.returncode, 2, done.stderr)
        outputs = [output["path"] for output in json.loads((out / "manifest.json").read_text())["outputs"]]
        self.assertEqual(set(outputs), {"tokenizer.model", "tokenizer_config.json", "config.json", "model.safetensors", "log.csv", "neurons.csv", "train.json"})
        again = self.path / "again"  # with the vocabulary of the first
        done = call(LAB, "train", *options[:-5], "--tokenizer", out, "-q", "-o", again)
        self.assertEqual(done.returncode, 0, done.stderr)
        for name in ("tokenizer.model", "tokenizer_config.json"):
            self.assertEqual((again / name).read_bytes(), (out / name).read_bytes())

    def test_recycling_is_counted_and_shown(self):
        out = self.path / "model"
        done = call(LAB, "train", "--preset", "relu2-tiny", "--text", TEXT, "--steps", 40, "--evaluate-every", 10, "--recycle", "--period", 10,
                    "--tau", 0.3, "--check-recycling", "-o", out, "--json", "-q")
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(done.stdout)
        self.assertEqual(result["recycle"]["tau"], 0.3)
        with open(out / "neurons.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual([row["step"] for row in rows], [str(step) for step in (10, 10, 20, 20, 30, 30, 40, 40)])
        self.assertEqual(sum(int(row["recycled"]) for row in rows), result["recycled"])
        self.assertGreater(result["recycled"], 0)
        shares = [float(row["dormant_share"]) for row in rows[-2:]]
        self.assertAlmostEqual(result["dormant"], sum(shares) / 2, delta=1e-6)
        done = call(LAB, "train", "--preset", "relu2-tiny", "--text", TEXT, "--steps", 4, "-o", self.path / "plain")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("Dormant neurons of feed-forward layers: ", done.stdout)
        self.assertNotIn("Recycled", done.stdout)

    def test_bad_input_is_one_clear_line(self):
        empty, binary = self.path / "empty.txt", self.path / "binary.txt"
        empty.write_bytes(b"")
        binary.write_bytes(bytes(range(256)) * 8)
        for text, words in ((empty, "empty"), (binary, "UTF-8"), (self.path / "none.txt", "none.txt")):
            done = call(LAB, "train", "--text", text, "-o", self.path / "x")
            self.assertEqual(done.returncode, 3, done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertIn(words, done.stderr)
        done = call(LAB, "train", "--text", TEXT, "--preset", "relu3-5m", "-o", self.path / "x")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("relu2-5m", done.stderr)
        done = call(LAB, "train", "--text", TEXT, "--learning-rate", "0", "-o", self.path / "x")
        self.assertEqual(done.returncode, 2, done.stderr)
        for preset, option, value, words in (("relu2-tiny", "--tau", "-1", "tau of at least 0"), ("relu2-tiny", "--period", "0", "--period"),
                                             ("spark-tiny", "--tau", "0.1", "cannot be recycled")):
            done = call(LAB, "train", "--text", TEXT, "--preset", preset, "--recycle", option, value, "-o", self.path / "y")
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertIn(words, done.stderr)
        done = call(LAB, "train", "--text", TEXT, "--tau", "0.1", "-o", self.path / "x")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("--recycle", done.stderr)
        self.assertFalse((self.path / "x").exists(), "a refused run leaves a folder")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
