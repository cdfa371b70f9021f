"""Changes valid content at random, by bytes and by structure."""

import copy
import json
import xml.etree.ElementTree as ElementTree

STRANGE = (
    None,
    True,
    "",
    "1",
    "x",
    "\udcff",
    "../a.png",
    "a" * 300,
    0,
    -1,
    2.5,
    1e300,
    -1e308,
    10**30,
    float("nan"),
    float("inf"),
    [],
    {},
    [[[]]],
)


def mutate_bytes(content, rng):
    """Flips, cuts, doubles or inserts bytes, at one to three places."""
    for _ in range(rng.integers(1, 4)):
        place, length = (int(rng.integers(0, len(content) + 1)) for _ in range(2))
        length = min(length, int(rng.integers(1, 64)))
        kind = rng.integers(0, 5)
        if kind == 0 and place < len(content):
            flipped = content[place] ^ (1 << int(rng.integers(0, 8)))
            content = content[:place] + bytes([flipped]) + content[place + 1 :]
        elif kind == 1:
            content = content[:place]
        elif kind == 2:
            part = content[place : place + length]
            content = content[:place] + part + content[place:]
        elif kind == 3:
            content = content[:place] + rng.bytes(length) + content[place:]
        else:
            content = content[:place] + content[place + length :]
    return content


def _places(value):
    """Every container below a value, with each of its keys."""
    if isinstance(value, dict | list):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        for key in keys:
            yield value, key
            yield from _places(value[key])


def mutate_json(content, rng):
    """Drops, retypes, exchanges, doubles or nests values, at one to three places."""
    content = copy.deepcopy(content)
    for _ in range(rng.integers(1, 4)):
        places = list(_places(content))
        if not places:
            return content
        holder, key = places[rng.integers(len(places))]
        other, other_key = places[rng.integers(len(places))]
        kind = rng.integers(0, 6)
        if kind == 0:
            del holder[key]
        elif kind == 1:
            holder[key] = copy.deepcopy(STRANGE[rng.integers(len(STRANGE))])
        elif kind == 2:
            values = copy.deepcopy((holder[key], other[other_key]))
            other[other_key], holder[key] = values
        elif kind == 3 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif kind == 4:
            holder[key] = [holder[key]]
        else:
            holder[key] = {"id": holder[key]}
    return content


def json_bytes(content):
    return json.dumps(content).encode("utf-8")


def mutate_lines(content, rng):
    """Drops, changes, doubles, moves or joins numbers, at one to three places."""
    texts = ("", "x", "nan", "1e999", "-3", "0", "0,5", "640", "cat", "\t", "9" * 400)
    lines = [line.split() for line in content.splitlines()]
    for _ in range(rng.integers(1, 4)):
        line = lines[rng.integers(len(lines))]
        other = lines[rng.integers(len(lines))]
        place, kind = int(rng.integers(len(line) + 1)), rng.integers(0, 6)
        if kind == 0:
            del line[place:]
        elif kind == 1:
            line[place : place + 1] = [texts[rng.integers(len(texts))]]
        elif kind == 2:
            line[place:place] = line[:place]
        elif kind == 3:
            line += other
        elif kind == 4:
            line.reverse()
        else:
            line[place : place + 1] = [",".join(other)]
    ends = ("\n", "\r\n", "\r", "\n\n")
    return ends[rng.integers(len(ends))].join(map(" ".join, lines))


def mutate_xml(content, rng):
    """Drops, retypes, exchanges, doubles or nests elements, at one to three places."""
    root = ElementTree.fromstring(content)
    texts = ("", "x", "nan", "1e999", "-3", "0", "1,5", "0,125", "true", "9" * 400)
    for _ in range(rng.integers(1, 4)):
        parents = [parent for parent in root.iter() if len(parent)]
        if not parents:
            break
        parent = parents[rng.integers(len(parents))]
        place = int(rng.integers(len(parent)))
        other = parents[rng.integers(len(parents))]
        child, kind = parent[place], rng.integers(0, 7)
        if kind == 0:
            parent.remove(child)
        elif kind == 1:
            child.text = texts[rng.integers(len(texts))]
        elif kind == 2:
            child.tag = parent.tag
        elif kind == 3:
            other.append(copy.deepcopy(child))
        elif kind == 4:
            parent.insert(place, copy.deepcopy(child))
        elif kind == 5:
            parent[place] = ElementTree.Element("wrapper")
            parent[place].append(child)
        else:
            child.tag = child.tag.title()
    return ElementTree.tostring(root)
