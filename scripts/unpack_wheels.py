"""Takes from PyPI wheels what linking against a library needs, and nothing else.

usage: unpack_wheels.py LIBRARY WHEELS DESTINATION COMPLETE

LIBRARY is libtorch or mujoco. DESTINATION gets include/, lib/ and licenses/. The file `complete`, with the text
COMPLETE, is written last; scripts/setup compares it.
"""

import pathlib
import shutil
import sys
import zipfile

# Library -> wheel name's start -> how its files are placed; a folder ends with a slash. Of LibTorch's headers only its own:
# the wheel also carries other versions of fmt, oneDNN and protobuf, which would hide the ones that Torpor links.
WANTED = {
    "libtorch": {
        "torch-": {
            "torch/include/ATen/": "include/ATen/",
            "torch/include/c10/": "include/c10/",
            "torch/include/caffe2/": "include/caffe2/",
            "torch/include/torch/": "include/torch/",
            "torch/lib/libtorch_cpu.so": "lib/libtorch_cpu.so",
            "torch/lib/libc10.so": "lib/libc10.so",
            "torch/lib/libgomp.so.1": "lib/libgomp.so.1",
            "torch-2.11.0.dist-info/licenses/": "licenses/torch/",
        },
        "nvidia_cuda_runtime-": {
            "nvidia/cu13/lib/libcudart.so.13": "lib/libcudart.so.13",
            "nvidia_cuda_runtime-13.0.96.dist-info/licenses/": "licenses/nvidia-cuda-runtime/",
        },
        "nvidia_cuda_cupti-": {
            "nvidia/cu13/lib/libcupti.so.13": "lib/libcupti.so.13",
            "nvidia_cuda_cupti-13.0.85.dist-info/licenses/": "licenses/nvidia-cuda-cupti/",
        },
    },
    "mujoco": {
        "mujoco-": {
            "mujoco/include/": "include/",
            "mujoco/libmujoco.so.3.3.0": "lib/libmujoco.so.3.3.0",
            "mujoco-3.3.0.dist-info/LICENSE": "licenses/LICENSE",
            "mujoco-3.3.0.dist-info/LICENSES_THIRD_PARTY.md": "licenses/LICENSES_THIRD_PARTY.md",
        },
    },
}


def placed(name, rules):
    for source, target in rules.items():
        if source.endswith("/"):
            if name.startswith(source) and not name.endswith("/"):
                return source, target + name[len(source):]
        elif name == source:
            return source, target
    return None, None


def main():
    library, complete = sys.argv[1], sys.argv[4]
    wheels, destination = map(pathlib.Path, sys.argv[2:4])
    for start, rules in WANTED[library].items():
        found = sorted(wheels.glob(start + "*.whl"))
        if len(found) != 1:
            sys.exit(f"unpack_wheels: expected one wheel {start}*.whl in {wheels}, found {len(found)}")
        unused = set(rules)
        with zipfile.ZipFile(found[0]) as wheel:
            for entry in wheel.infolist():
                rule, target = placed(entry.filename, rules)
                if target is None:
                    continue
                unused.discard(rule)
                path = destination / target
                if ".." in path.parts:
                    sys.exit(f"unpack_wheels: {found[0].name} holds a path that leaves its folder: {entry.filename}")
                path.parent.mkdir(parents=True, exist_ok=True)
                with wheel.open(entry) as source, open(path, "wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
        if unused:
            sys.exit(f"unpack_wheels: {found[0].name} lacks {', '.join(sorted(unused))}")
        found[0].unlink()
    (destination / "complete").write_text(complete + "\n")


if __name__ == "__main__":
    main()
