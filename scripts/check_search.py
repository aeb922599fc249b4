#!/usr/bin/env python3
"""Compare `milwright optimize --smallest` with one form for all weights, on trained models and inputs that neither saw.

    python3 scripts/check_search.py --milwright target/release/milwright --models FOLDER [NAME ...]

FOLDER has the unpacked packages that `check_onnx.py --download` fetches. For each model and form, the form is applied to all
weights first (`--quantize FORM --calibrate`), and the search then has the SNR that this reached as its tolerance, on the same
samples. Both results run on other samples; the table shows bytes, SNR, and the task: lines that are read the same, codes that
are, notes that are heard in both, words whose nearest neighbors stay. Inputs are made here, by a fixed seed: rendered lines
and codes, chords, words. Needs numpy, pillow and the wheel.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile
import time

import milwright
import numpy as np
from PIL import Image, ImageDraw, ImageFont

WORDS = """about after again along animal answer around because become before began behind being better between bridge
bright bring brother build called cannot carry center certain change children city clear close color common complete
country course cover cross during early earth enough every example family father figure final finger follow force forest
friend front garden general great ground happen heard heart heavy history horse house hundred idea important inside island
kitchen language large later learn letter light listen little machine matter measure middle might minute money morning
mother mountain music nature never night north nothing notice number object ocean often order paper pattern people perhaps
person picture place plain planet plant point power present pretty problem produce question quick rather reason record
remember river round school science second sentence several shape short should simple since sister sound south special
spring square stand start station still stood story street strong study sudden summer surface system table teach thing
think thought thousand through together toward travel under until usual valley voice water weather weight winter without
wonder world write yellow young""".split()
FONTS = sorted(pathlib.Path("/usr/share/fonts/truetype").glob("**/*.ttf"))


def line(rng, text, size, ink, paper):
    """A line of text, as a picture that is as high as wanted."""
    height, width = size
    font = ImageFont.truetype(str(rng.choice(FONTS)), int(rng.integers(height * 5 // 10, height * 8 // 10)))
    picture = Image.new("RGB", (width, height), paper)
    ImageDraw.Draw(picture).text((int(rng.integers(2, 10)), int(rng.integers(0, height // 6))), text, font=font, fill=ink)
    noisy = np.asarray(picture, np.float32) + rng.normal(0, rng.uniform(0, 12), (height, width, 3))
    return np.clip(noisy, 0, 255)


def ocr(rng):
    text = " ".join(rng.choice(WORDS, 2)) if rng.random() < 0.7 else str(rng.integers(10**4, 10**9))
    ink, paper = tuple(int(x) for x in rng.integers(0, 90, 3)), tuple(int(x) for x in rng.integers(170, 255, 3))
    pixels = line(rng, text, (48, 192), ink, paper)
    return ((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None].astype(np.float32)


def turned(rng):
    pixels = ocr(rng)
    return np.ascontiguousarray(pixels[:, :, ::-1, ::-1]) if rng.random() < 0.5 else pixels


def code(rng):
    digits = "".join(str(d) for d in rng.integers(0, 10, 5))
    return (line(rng, digits, (50, 155), (20, 60, 30), (235, 240, 235)) / 255)[None].astype(np.float32)


def chords(rng):
    time_axis = np.arange(43844) / 22050
    sound = rng.normal(0, 0.002, time_axis.shape)
    for _ in range(rng.integers(2, 8)):
        pitch = 440 * 2 ** ((rng.integers(36, 84) - 69) / 12)
        start, length = rng.uniform(0, 1.7), rng.uniform(0.15, 1.2)
        at = np.clip(time_axis - start, 0, None)
        shape = np.where((at > 0) & (at < length), np.exp(-3 * at / length) * np.minimum(1, at / 0.01), 0)
        partials = range(1, int(rng.integers(3, 9)))
        sound += rng.uniform(0.1, 0.4) * shape * sum(np.sin(2 * np.pi * pitch * n * at) / n**1.3 for n in partials)
    return (sound / max(1.0, np.abs(sound).max()))[None, :, None].astype(np.float32)


def word(rng):
    text = str(rng.choice(WORDS)) if rng.random() < 0.8 else str(rng.choice(WORDS))[: rng.integers(2, 5)] + str(rng.choice(WORDS))
    at = {c: i for i, c in enumerate("!\"#$%&'()*+,-./0123456789:;<=>?@_abcdefghijklmnopqrstuvwxyz")}
    one_hot = np.zeros((1, 10, 59), np.float32)
    for i, c in enumerate(text[:10]):
        one_hot[0, i, min(at[c], 58)] = 1
    return one_hot


def first_choices(expected, found):
    """The share of samples all of whose first choices stay: lines that are read the same, codes that are."""
    same = [all((x.argmax(-1) == y.argmax(-1)).all() for x, y in zip(a, b)) for a, b in zip(expected, found)]
    return float(np.mean(same))


def notes(expected, found):
    """F1 of what is heard in both."""
    heard = [np.concatenate([(x > 0.5).ravel() for a in all_ for x in a]) for all_ in (expected, found)]
    both = (heard[0] & heard[1]).sum()
    return float(2 * both / max(1, heard[0].sum() + heard[1].sum()))


def neighbors(expected, found):
    """The share of words whose nearest other word is the same."""
    def nearest(all_):
        vectors = np.concatenate([a[0].reshape(1, -1) for a in all_])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        near = vectors @ vectors.T
        near[np.equal.outer(range(len(near)), range(len(near)))] = -2
        near[near > 0.999999] = -2
        return near.argmax(1)
    return float((nearest(expected) == nearest(found)).mean())


# The file, what fixes its sizes, its samples and their number, the task, and the forms to beat.
MODELS = {
    "ocr": ("rapidocr/models/PP-OCRv6_rec_small.onnx", ["DynamicDimension.0=1", "DynamicDimension.1=192"], ocr, 36, first_choices, ["palette4:rows", "palette3:rows"]),
    "turned": ("rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx", ["x.0=1", "x.2=48", "x.3=192"], turned, 72, first_choices, ["palette6:rows", "palette4:rows"]),
    "codes": ("vietcombank_captcha.onnx", ["unk__56=1"], code, 72, first_choices, ["palette6:rows", "palette4:rows", "palette3:rows"]),
    "notes": ("icassp_2022/nmp.onnx", ["unk__749=1"], chords, 36, notes, ["palette6:rows", "palette4:rows"]),
    "words": ("en_300/model.onnx", ["unk__487=1", "unk__488=10"], word, 96, neighbors, ["palette4:rows", "palette3:rows"]),
}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--milwright", required=True)
    parser.add_argument("--models", required=True, type=pathlib.Path)
    parser.add_argument("--bits", action="store_true", help="compare 4 bits instead: what samples gain over k-means without")
    parser.add_argument("names", nargs="*", default=list(MODELS))
    args = parser.parse_args()

    def call(*words):
        done = subprocess.run([args.milwright, *map(str, words), "--json"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(map(str, words))}\n{done.stderr}")
        return json.loads(done.stdout)

    if args.bits:
        print("| model | form | bytes | SNR on unseen samples | task |\n|---|---|---|---|---|")
    else:
        print("| model | all weights | bytes | SNR | task | searched: bytes | SNR | task | smaller | s | runs |\n|---|---|---|---|---|---|---|---|---|---|---|")
    for name in args.names:
        file, sizes, sample, count, task, forms = MODELS[name]
        source = next(p for p in args.models.rglob(pathlib.Path(file).name) if str(p).endswith(file))
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            call("convert", source, "-o", folder / "model.mlpackage", *(x for s in sizes for x in ("--size", s)), "--target-os", "ios18")
            model = milwright.Model(folder / "model.mlpackage")
            given = model.input_names[0] if hasattr(model, "input_names") else milwright.inspect(folder / "model.mlpackage")["functions"][0]["inputs"][0]["name"]
            rng = np.random.default_rng(7)
            (folder / "inputs").mkdir()
            for i in range(count):
                (folder / "inputs" / f"{i:03}").mkdir()
                np.save(folder / "inputs" / f"{i:03}" / f"{given}.npy", sample(rng))
            unseen = [{given: sample(rng)} for _ in range(60)]
            run = lambda path: [[np.asarray(v) for v in milwright_model.predict(x).values()] for milwright_model in [milwright.Model(path)] for x in unseen]
            expected = run(folder / "model.mlpackage")

            def quality(path):
                found = run(path)
                # The worst output, as the tolerance has it.
                signal = [sum(float((a[k] ** 2).sum()) for a in expected) for k in range(len(expected[0]))]
                noise = [sum(float(((a[k] - b[k]) ** 2).sum()) for a, b in zip(expected, found)) for k in range(len(expected[0]))]
                snr = min(10 * np.log10(s / max(n, 1e-30)) for s, n in zip(signal, noise))
                return snr, task(expected, found)

            if args.bits:
                # k-means without samples is what coremltools does; its clusters are at most as good.
                for form, more in [("palette4", []), ("palette4", ["--calibrate"]), ("palette4:rows", ["--calibrate"]), ("int4:block=32", ["--calibrate"])]:
                    package = folder / "four.mlpackage"
                    report = call("optimize", folder / "model.mlpackage", "--inputs", folder / "inputs", "--force", "-o", package, "--quantize", form, *more, "--tolerance", "none")
                    snr, share = quality(package)
                    print(f"| {name} | `{form}{' ' if more else ''}{' '.join(more)}` | {report['bytes_after']:,} | {snr:.1f} | {share:.3f} |", flush=True)
                continue
            for form in forms:
                packages = folder / "uniform.mlpackage", folder / "smallest.mlpackage"
                common = ["optimize", folder / "model.mlpackage", "--inputs", folder / "inputs", "--force"]
                uniform = call(*common, "-o", packages[0], "--quantize", form, "--calibrate", "--tolerance", "none")
                reached = min(o["snr_db"] for c in uniform["proof"]["functions"].values() for o in c if isinstance(o["snr_db"], float))
                start = time.monotonic()
                smallest = call(*common, "-o", packages[1], "--smallest", "--tolerance", f"{reached:.2f}")
                seconds = time.monotonic() - start
                (a, x), (b, y) = (quality(p) for p in packages)
                sizes_ = uniform["bytes_after"], smallest["bytes_after"]
                share = 100 * (1 - sizes_[1] / sizes_[0])
                print(f"| {name} | `{form}` | {sizes_[0]:,} | {a:.1f} | {x:.3f} | {sizes_[1]:,} | {b:.1f} | {y:.3f} | {share:.1f} % | {seconds:.0f} | {smallest['search']['predictions']} |", flush=True)


if __name__ == "__main__":
    main()
