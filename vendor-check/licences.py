"""Part of vendor-check/run: is each crate of `cargo metadata` under a licence of the list?

An expression of SPDX is true if one of its ways (OR) needs only licences (AND) of the list; exceptions (WITH) only
give more rights. `--self-test` judges expressions of which it is known.
"""
import json
import re
import sys

FREE = {"MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Unlicense", "Zlib", "0BSD", "CC0-1.0",
        "Unicode-3.0", "BSL-1.0", "MIT-0"}


def is_free(text):
    words = re.findall(r"[()]|[^\s()]+", (text or "NONE").replace("/", " OR "))

    def one():
        word = words.pop(0)
        if word == "(":
            result = any_of()
            words.pop(0)  # the closing one
            return result
        if words[:1] == ["WITH"]:
            del words[:2]
        return word in FREE

    def all_of():
        result = one()
        while words[:1] == ["AND"]:
            words.pop(0)
            result = one() and result
        return result

    def any_of():
        result = all_of()
        while words[:1] == ["OR"]:
            words.pop(0)
            result = all_of() or result
        return result

    return any_of() and not words


def main():
    if sys.argv[1] == "--self-test":
        good = ["MIT", "GPL-3.0 OR MIT", "(MIT OR GPL-3.0) AND Unicode-3.0", "Apache-2.0 WITH LLVM-exception"]
        bad = ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND GPL-3.0", None]
        return all(map(is_free, good)) and not any(map(is_free, bad))
    with open(sys.argv[1]) as file:
        packages = json.loads(next(line for line in file if line.startswith("{")))["packages"]
    strangers = [f'{package["name"]} {package["version"]}: {package["license"]}'
                 for package in packages if not is_free(package["license"])]
    print(*strangers, sep="\n", end="\n" if strangers else "")
    print(f"        {len(packages)} crates")
    return not strangers


sys.exit(not main())
