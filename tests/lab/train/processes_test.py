#!/usr/bin/env python3
"""torpor-lab train in several processes, started as torchrun, Slurm and Kubernetes start them: TORPOR_LAB TEXT. The losses are
those of one process up to the order of the sums; only the first process writes; a lost process ends all with a clear message."""
import csv
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

LAB, TEXT = sys.argv[1:3]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(processes, *arguments, each=lambda rank: (), variables=None):
    """The processes, in the order of their ranks."""
    port = free_port()
    out = []
    for rank in range(processes):
        environment = {**os.environ, "WORLD_SIZE": str(processes), "RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
                       "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", **(variables or {})}
        out.append(subprocess.Popen([LAB, "train", *map(str, arguments), *map(str, each(rank))], env=environment,
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    return out


def finish(processes, timeout=60):
    """(exit code, standard output, standard error) of each."""
    out = []
    for process in processes:
        stdout, stderr = process.communicate(timeout=timeout)
        out.append((process.returncode, stdout, stderr))
    return out


def losses(folder):
    with open(folder / "log.csv", newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


class Processes(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name)

    def tearDown(self):
        self.folder.cleanup()

    def options(self, steps, *more):
        return ["--preset", "relu2-tiny", "--text", TEXT, "--steps", steps, "--precision", "f32", "-q", *more]

    def run_alone(self, *arguments):
        done = subprocess.run([LAB, "train", *map(str, arguments)], capture_output=True, text=True, timeout=60,
                              env={**os.environ, "OMP_NUM_THREADS": "1"})
        self.assertEqual(done.returncode, 0, done.stderr)

    def assert_same_losses(self, a, b):
        a, b = losses(a), losses(b)
        self.assertEqual(len(a), len(b))
        for x, y in zip(a, b):
            self.assertEqual(x.keys(), y.keys())
            for name in x:
                self.assertAlmostEqual(x[name], y[name], delta=2e-4 * max(1, abs(x[name])), msg=f"{name} at step {x['step']}")

    def test_recycled_neurons_are_the_same_in_all(self):
        options = self.options(24, "--batch", 4, "--recycle", "--tau", 0.3, "--period", 6, "--check-recycling", "--evaluate-every", 0)
        self.run_alone(*options, "-o", self.path / "one")
        for code, _, error in finish(start(2, *options, "-o", self.path / "two")):
            self.assertEqual(code, 0, error)
        self.assert_same_losses(self.path / "one", self.path / "two")
        one, two = ((self.path / name / "neurons.csv").read_text() for name in ("one", "two"))
        self.assertEqual(one, two)
        self.assertGreater(sum(int(row["recycled"]) for row in csv.DictReader(one.splitlines())), 0)

    def test_the_losses_are_those_of_one_process(self):
        # Five windows over two and three processes, two passes a step, and a vocabulary that only the first one trains.
        options = self.options(24, "--batch", 5, "--accumulation", 2, "--held-out", TEXT, "--held-out-windows", 11, "--evaluate-every", 8,
                               "--vocab-size", 400)
        self.run_alone(*options, "-o", self.path / "one")
        for processes in (2, 3):
            out = self.path / str(processes)
            done = finish(start(processes, *options, each=lambda rank: ["-o", out if rank == 0 else self.path / f"of-rank-{rank}"]))
            self.assertEqual([code for code, _, _ in done], [0] * processes, done)
            self.assert_same_losses(self.path / "one", out)
            self.assertIn("The model is in", done[0][1])
            self.assertEqual([stdout + stderr for _, stdout, stderr in done[1:]], [""] * (processes - 1), "they are to be silent")
            self.assertFalse(list(self.path.glob("of-rank-*")), "only the first process writes")

    def test_it_goes_on_from_the_first_process_s_checkpoint(self):
        options = self.options(30, "--checkpoint-every", 10)
        self.run_alone(*options, "-o", self.path / "one")
        out = self.path / "two"
        processes = start(2, *options, "--resume", "-o", out)
        for _ in range(600):
            if list(out.glob("checkpoint-0*")):
                break
            time.sleep(0.01)
        for process in processes:
            process.send_signal(signal.SIGINT)
        stopped = finish(processes)
        self.assertTrue(list(out.glob("checkpoint-0*")), stopped)
        done = finish(start(2, *options, "--resume", "-o", out))
        self.assertEqual([code for code, _, _ in done], [0, 0], done)
        self.assert_same_losses(self.path / "one", out)

    def test_asked_to_stop_all_stop_after_the_same_step(self):
        out = self.path / "run"
        processes = start(2, *self.options(1000000, "--checkpoint-every", 50), "-o", out)
        for _ in range(600):
            if list(out.glob("checkpoint-0*")):
                break
            time.sleep(0.05)
        processes[1].send_signal(signal.SIGINT)  # one of them is enough
        done = finish(processes)
        for code, _, stderr in done:
            self.assertEqual(code, 1)
            self.assertRegex(stderr, r"interrupted after step \d+; go on with --resume")
        self.assertEqual(done[0][2], done[1][2])

    def test_a_lost_process_ends_all(self):
        for lost in (0, 1):
            out = self.path / f"run{lost}"
            processes = start(2, *self.options(1000000, "--checkpoint-every", 50), "-o", out)
            for _ in range(600):
                if list(out.glob("checkpoint-0*")):
                    break
                time.sleep(0.05)
            processes[lost].send_signal(signal.SIGKILL)
            done = finish(processes)
            code, _, stderr = done[1 - lost]
            self.assertEqual(code, 1)
            self.assertEqual(stderr.count("torpor-lab:"), 1, stderr)
            self.assertIn(f"process {1 - lost} of 2: another process was lost", stderr)
            self.assertEqual(len(list(out.glob("checkpoint-0*"))), 1, "the checkpoint was lost")

    def test_bad_input_is_a_clear_error_everywhere(self):
        other = self.path / "other.txt"
        other.write_text("Another text, and a longer one. " * 200)
        done = finish(start(2, "--preset", "relu2-tiny", "--steps", 5, "-q", "-o", self.path / "out",
                            each=lambda rank: ["--text", TEXT if rank == 0 else other]))
        self.assertEqual(done[1][0], 2, done)
        self.assertRegex(done[1][2], r"process 1: expected the command and the texts of the first process: text_fingerprint is ")
        self.assertEqual(done[0][0], 1, done)
        self.assertIn("another process was lost", done[0][2])

        [(code, _, stderr)] = finish(start(1, *self.options(1), "-o", self.path / "x", variables={"WORLD_SIZE": "2", "RANK": "two"}))
        self.assertEqual(code, 2)
        self.assertIn('the environment variable RANK: expected a number from 0 to 1, found "two"', stderr)
        [(code, _, stderr)] = finish(start(1, *self.options(1), "-o", self.path / "x", variables={"WORLD_SIZE": "2", "MASTER_ADDR": ""}))
        self.assertEqual(code, 2)
        self.assertIn("MASTER_ADDR", stderr)
        done = finish(start(2, *self.options(1, "--batch", 1), "-o", self.path / "x"))
        for code, _, stderr in done:
            self.assertEqual(code, 2)
            self.assertIn("--batch 1: expected at least 2, a window for each process", stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
