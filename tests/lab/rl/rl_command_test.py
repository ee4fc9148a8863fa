"""torpor rl and what it leaves: rl_command_test.py TORPOR_LAB"""
import json
import pathlib
import subprocess
import sys
import tempfile

LAB = sys.argv[1]


def run(*arguments, expect=0):
    done = subprocess.run([LAB, *arguments], capture_output=True, text=True)
    assert done.returncode == expect, f"{arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        common = ["rl", "--env", "catch", "--steps", "1500", "--seeds", "2", "--recycle", "--period", "100", "--tau", "0.2", "--json"]
        first = json.loads(run(*common, "-o", folder / "a").stdout)
        second = json.loads(run(*common, "-o", folder / "b").stdout)
        assert first["options"]["recycle"]["tau"] == 0.2
        assert [r["seed"] for r in first["runs"]] == [0, 1], first["runs"][0]["seed"]
        for one, other in zip(first["runs"], second["runs"]):
            assert one["episodes"] == other["episodes"] and one["log"] == other["log"]
            assert len(one["episodes"]) == 1500 // 9
            assert sum(entry["recycled"] for entry in one["log"]) > 0
        assert first["runs"][0]["episodes"] != first["runs"][1]["episodes"]
        assert first["return"]["low"] <= first["return"]["iqm"] <= first["return"]["high"]
        for file in ("report.html", "checkpoint-0.safetensors", "checkpoint-1.safetensors", "episode.gif", "rl.json", "episodes.csv", "log.csv", "manifest.json"):
            assert (folder / "a" / file).stat().st_size > 100, file
        assert "Dormant neurons by layer" in (folder / "a" / "report.html").read_text()
        assert (folder / "a" / "episode.gif").read_bytes().startswith(b"GIF89a")
        assert list((folder / "a" / "seed-1").glob("events.out.tfevents.*"))

        # On from the end, as if it had been asked for at once: the replay's size goes by the steps, so both say it.
        longer = [x if x != "1500" else "1800" for x in common]
        whole = json.loads(run(*longer, "-o", folder / "whole").stdout)
        assert "replay" in run(*longer, "--resume", "-o", folder / "a", expect=3).stderr
        again = json.loads(run(*longer, "--resume", "-o", folder / "whole").stdout)
        assert [r["episodes"] for r in again["runs"]] == [r["episodes"] for r in whole["runs"]]

        # Drawn again, without training.
        report = (folder / "b" / "report.html").read_text()
        (folder / "b" / "report.html").unlink()
        run("rl", "--replay", folder / "b", "--quiet")
        assert (folder / "b" / "report.html").read_text().count("<svg") == report.count("<svg")
        assert json.loads((folder / "b" / "rl.json").read_text())["runs"] == second["runs"]
        assert "--env" in run("rl", "--replay", folder / "b", "--env", "catch", expect=2).stderr
        run("rl", "--replay", folder / "nothing", expect=3)
        (folder / "b" / "rl.json").write_text('{"schema": "torpor.rl/2", "runs": 3}')
        assert "other JSON" in run("rl", "--replay", folder / "b", expect=3).stderr

        shown = run("rl", "--env", "catch", "--steps", "900", "-o", folder / "c", "--quiet").stdout
        assert "dormant neurons at the end" in shown and "report.html" in shown

        assert 'Did you mean "breakout-mini"' in run("rl", "--env", "breakout", expect=2).stderr
        assert "continuous" in run("rl", "--env", "pendulum", "--agent", "dqn", expect=2).stderr
        assert "--env NAME" in run("rl", expect=2).stderr
        assert "pictures" in run("rl", "--env", "cartpole", "--network", "impala", "--steps", "10", expect=2).stderr
        assert "compensation" in run("rl", "--env", "catch", "--recycle", "--check-recycling", "--compensate", expect=2).stderr
        assert "tau" in run("rl", "--env", "catch", "--recycle", "--tau", "-1", expect=2).stderr
        run("rl", "--env", "catch", "--recycle", "--period", "0", expect=2)
        run("rl", "--env", "catch", "--tau", "0.1", expect=2)  # without --recycle
        assert "replay ratio" in run("rl", "--env", "catch", "--replay-ratio", "0.3", expect=2).stderr
        assert "--text" in run("study", "spark", expect=2).stderr
        assert "multiple of 20" in run("study", "reshuffle", "--epochs", "30", expect=2).stderr


if __name__ == "__main__":
    main()
