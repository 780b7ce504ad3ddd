"""Other programs' files: what they can carry comes back equal, and what is wrong in one is said with its line."""

import json
import random
import uuid
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charactery.conversations import Added, Mark, Node, Prompt, Store, Tree, Vote, private_store, put
from charactery.conversations.formats import FORMATS, export_file, import_file, read_file
from charactery.conversations.schema import CHOICES, ENDINGS, KINDS
from charactery.errors import BadData, CharacteryError

EXAMPLES = settings(max_examples=40, deadline=None, database=None, derandomize=True)


def uid(n: int) -> str:
    return str(uuid.UUID(int=n))


# -- trees

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)
times = st.floats(0, 4e9)
ids = st.uuids().map(str)
values = st.dictionaries(texts, st.one_of(st.floats(0, 2), st.integers(-5, 5), st.none(), st.lists(st.booleans())))
facts = st.fixed_dictionaries(
    {"time": times, "ending": st.sampled_from([*ENDINGS, None])},
    optional={
        "subject": texts, "weights": texts, "seed": st.integers(-(2**63) + 1, 2**63 - 1), "sampler": values,
        "prompt": st.builds(Prompt, st.integers(0, 20), texts),
    },
)  # fmt: skip


@st.composite
def trees(draw: st.DrawFn, shape: str) -> Tree:
    """A tree that a format of this shape can carry."""
    count = draw(st.integers(1, 9))
    all_roles = ("user", "assistant", "system", "tool")
    roles = {"dialogue": all_roles[:2], "swipes": all_roles[:3]}.get(shape, all_roles)
    own = draw(st.lists(ids, min_size=count, max_size=count, unique=True))
    nodes: list[Node] = []
    line: list[Node] = []
    read: set[str | None] = set()
    for n, id in enumerate(own):
        parent = draw(st.sampled_from([None, *(node.id for node in nodes)]))
        role, said = draw(st.sampled_from(roles)), draw(texts)
        if shape == "line":
            parent = own[n - 1] if n else None
        elif shape == "dialogue" and n == 0 and draw(st.booleans()):
            role, said = "system", said or "Be brief."
        elif shape == "dialogue" and nodes and nodes[0].role == "system":
            parent = parent or nodes[0].id
        elif shape == "swipes":
            beside = draw(st.sampled_from([None, *line]))
            parent = beside.parent if beside else (line[-1].id if line else None)
            role = beside.role if beside else role
        node = Node(id, parent, role, said, **draw(facts))
        if node.prompt and parent not in read:  # there is nothing before it of which to keep letters
            node = replace(node, prompt=Prompt(0, node.prompt.rest))
        if node.prompt or parent in read:
            read.add(id)
        if shape == "swipes" and not beside:
            line.append(node)
        nodes.append(node)
    at = {"main": line[-1].id} if line else draw(st.dictionaries(texts, st.sampled_from(own), max_size=2))
    if shape == "line":
        at.pop("main", None)
    marks = draw(st.lists(st.builds(Mark, st.sampled_from(own), st.sampled_from(KINDS), texts, times), max_size=3,
                          unique_by=lambda m: (m.node, m.kind, m.text)))  # fmt: skip
    pairs = st.sampled_from(own)
    cast = st.lists(
        st.builds(Vote, ids, pairs, pairs, st.sampled_from(CHOICES), times), max_size=2, unique_by=lambda v: v.id
    )
    votes = tuple(draw(cast))
    return Tree(
        draw(ids.filter(lambda id: id not in own)), draw(texts), draw(times), tuple(nodes), at, tuple(marks), votes
    )


SHAPES = {
    "charactery": "any", "chatgpt": "any", "open-webui": "dialogue", "librechat": "dialogue", "sharegpt": "line",
    "sillytavern": "swipes",
}  # fmt: skip


@pytest.mark.parametrize("format", FORMATS)
def test_a_tree_comes_back_equal(format: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp(format)

    @EXAMPLES
    @given(trees(SHAPES[format]))
    def comes_back(tree: Tree) -> None:
        path = folder / f"{tree.id}{FORMATS[format].suffix}"
        path.unlink(missing_ok=True)
        assert export_file([tree], path, format).left_out == 0
        contents = read_file(path)
        assert (contents.format, contents.faults) == (format, [])
        assert contents.trees == [tree]

    comes_back()


def test_a_tree_goes_through_the_store_equal() -> None:
    @EXAMPLES
    @given(trees("any"))
    def comes_back(tree: Tree) -> None:
        store = private_store()
        assert put(store, tree) == Added(len(tree.nodes), 0, 0)
        assert store.tree(tree.id) == tree
        store.close()

    comes_back()


def test_several_conversations_in_a_file(tmp_path: Path) -> None:
    many = [replace(TREE, id=uid(200 + n), nodes=(Node(uid(300 + n), None, "user", str(n), 1.0),), cursors={}, marks=())
            for n in range(3)]  # fmt: skip
    for format, how in FORMATS.items():
        out = tmp_path / (format if not how.several else f"{format}{how.suffix}")
        paths = export_file(many, out, format).paths
        assert len(paths) == (1 if how.several else 3)
        assert [tree for path in paths for tree in read_file(path).trees] == many


# -- one tree, for what is to be seen in it

TREE = Tree(
    uid(100), "Tea with the captain", 1.0,
    (
        Node(uid(1), None, "system", "Be brief.", 1.0),
        Node(uid(2), uid(1), "user", "Tea?", 2.0),
        Node(uid(3), uid(2), "assistant", "Aye.", 3.5, "end", "runs/ada@0.5", "ab", Prompt(0, "Tea?"), {"top_p": 1}, 7),
        Node(uid(4), uid(2), "assistant", "No.", 4.0, "stopped"),
        Node(uid(5), uid(4), "user", "Why not?", 5.0),
        Node(uid(6), uid(3), "user", "Green?", 6.0),
    ),
    {"main": uid(6)}, (Mark(uid(3), "tag", "short", 7.0),),
)  # fmt: skip


@pytest.mark.parametrize(
    ("format", "left_out", "texts"),
    [
        ("sharegpt", 2, ["Be brief.", "Tea?", "Aye.", "Green?"]),
        ("sillytavern", 1, ["Be brief.", "Tea?", "Aye.", "No.", "Green?"]),
        ("librechat", 0, [node.text for node in TREE.nodes]),
    ],
)
def test_what_has_no_place_is_counted(format: str, left_out: int, texts: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert export_file([TREE], out, format).left_out == left_out
    assert [node.text for node in read_file(out).trees[0].nodes] == texts


def test_tools_and_system_messages_in_between_are_left_out_where_there_is_no_place(tmp_path: Path) -> None:
    tool = Node(uid(7), uid(3), "tool", "It rains.", 6.5)
    after = Node(uid(8), uid(7), "user", "So?", 6.6)
    tree = replace(TREE, nodes=(*TREE.nodes, tool, after))
    for format in ("open-webui", "librechat"):
        assert export_file([tree], tmp_path / format, format).left_out == 1
        back = read_file(tmp_path / format).trees[0].by_id()
        assert uid(7) not in back and back[uid(8)].parent == uid(3)


def test_what_another_program_edits_is_no_longer_told_of(tmp_path: Path) -> None:
    """A seed and prompt beside a text they did not give would be a false recipe."""
    path = tmp_path / "out.json"
    export_file([TREE], path, "chatgpt")
    value = json.loads(path.read_text())
    value[0]["mapping"][uid(3)]["message"]["content"]["parts"] = ["Arr!"]
    path.write_text(json.dumps(value))
    back = read_file(path).trees[0].by_id()
    assert (back[uid(3)].text, back[uid(3)].seed, back[uid(3)].prompt) == ("Arr!", None, None)
    assert back[uid(4)] == TREE.nodes[3]
    store = private_store()
    put(store, TREE)
    assert import_file(store, path).added == Added(2, 4, 2)
    assert [node.text for node in store.children(TREE.id, uid(2))] == ["Aye.", "No.", "Arr!"]


def test_importing_again_adds_nothing(tmp_path: Path) -> None:
    for name, file in (("a.json", CHATGPT), ("b.jsonl", SILLYTAVERN), ("c.json", SHAREGPT), ("d.json", OPEN_WEBUI)):
        (tmp_path / name).write_text(file if isinstance(file, str) else json.dumps(file))
        store = private_store()
        first, second = (import_file(store, tmp_path / name) for _ in range(2))
        assert first.added.new > 0 and second.added == Added(0, first.added.new, 0), name
        assert first.conversations == second.conversations


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    export_file([TREE], tmp_path / "out")
    with pytest.raises(BadData, match="there already"):
        export_file([TREE], tmp_path / "out")
    with pytest.raises(CharacteryError, match="the formats are"):
        export_file([TREE], tmp_path / "new", "word")


# -- files as the programs themselves write them


def message(id: str, parent: str | None, children: list[str], role: str, content: Any, **more: Any) -> dict[str, Any]:
    said = {"id": id, "author": {"role": role}, "create_time": 1756000001.5, "content": content, "metadata": {}, **more}
    return {"id": id, "message": said, "parent": parent, "children": children}


def plain(text: str) -> dict[str, Any]:
    return {"content_type": "text", "parts": [text]}


CHATGPT = [
    {
        "title": "Knots", "create_time": 1756000000.25, "conversation_id": uid(40), "current_node": "b2",
        "mapping": {
            "root": {"id": "root", "message": None, "parent": None, "children": ["sys"]},
            "sys": message("sys", "root", ["ctx"], "system", plain("")),
            "ctx": message("ctx", "sys", ["q"], "user", {"content_type": "user_editable_context", "user_profile": "x"}),
            "q": message("q", "ctx", ["b1", "b2"], "user", {
                "content_type": "multimodal_text", "parts": [{"content_type": "image_asset_pointer"}, "Which knot?"],
            }),
            "b2": message("b2", "q", [], "assistant", plain("A bowline."), metadata={"model_slug": "gpt-5"}),
            "b1": message("b1", "q", ["t"], "assistant", {"content_type": "code", "text": "look()"}),
            "t": message("t", "b1", ["a"], "tool", {"content_type": "execution_output", "text": "a knot"}),
            "a": message("a", "t", [], "assistant", plain("A hitch.")),
        },
    }
]  # fmt: skip


def test_chatgpt(tmp_path: Path) -> None:
    (tmp_path / "conversations.json").write_text(json.dumps(CHATGPT))
    (tree,) = read_file(tmp_path / "conversations.json").trees
    asked, first, second, tool, last = (next(n for n in tree.nodes if n.text.startswith(text)) for text in
                                        ("[image", "look", "A bow", "a knot", "A hitch"))  # fmt: skip
    assert (tree.id, tree.title, tree.time) == (uid(40), "Knots", 1756000000.25)
    assert (asked.parent, asked.text) == (None, "[image_asset_pointer]\nWhich knot?")
    assert first.parent == second.parent == asked.id and (tool.parent, last.parent) == (first.id, tool.id)
    assert [n for n in tree.nodes if n.parent == asked.id] == [first, second]  # in the order of `children`
    assert (second.subject, second.time, tool.role) == ("gpt-5", 1756000001.5, "tool")
    assert tree.cursors == {"main": second.id} and len(tree.nodes) == 5


OPEN_WEBUI = [
    {
        "id": "chat-1", "title": "Tea", "created_at": 1700000000, "chat": {
            "params": {"system": "Be brief."}, "history": {"currentId": "m3", "messages": {
                "m1": {"id": "m1", "parentId": None, "childrenIds": ["m2", "m3"], "role": "user", "content": "Tea?"},
                "m2": {"id": "m2", "parentId": "m1", "role": "assistant", "content": "Aye.", "model": "llama",
                       "timestamp": 1700000005},
                "m3": {"id": "m3", "parentId": "m1", "role": "assistant", "content": "Nay", "done": False},
            }},
        },
    }
]  # fmt: skip


def test_open_webui(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(OPEN_WEBUI))
    (tree,) = read_file(tmp_path / "a.json").trees
    system, asked, yes, no = tree.nodes
    assert [n.role for n in tree.nodes] == ["system", "user", "assistant", "assistant"]
    assert asked.parent == system.id and yes.parent == no.parent == asked.id
    assert (yes.subject, yes.time, yes.ending, no.ending) == ("llama", 1700000005, "end", None)
    assert tree.cursors == {"main": no.id}


def test_librechat_flat_and_nested(tmp_path: Path) -> None:
    nobody = "00000000-0000-0000-0000-000000000000"
    flat: list[dict[str, Any]] = [
        {"messageId": "q", "parentMessageId": nobody, "isCreatedByUser": True, "text": "A story",
         "createdAt": "2024-05-28T18:08:55.014Z"},
        {"messageId": "a", "parentMessageId": "q", "isCreatedByUser": False, "text": "Once", "model": "m",
         "finish_reason": "length", "createdAt": "2024-05-28T18:08:56Z"},
        {"messageId": "b", "parentMessageId": "q", "isCreatedByUser": False, "text": "", "unfinished": True,
         "content": [{"type": "think", "think": "hm"}, {"type": "text", "text": {"value": "Twice"}}]},
    ]  # fmt: skip
    nested = [{**flat[0], "children": [{**flat[1], "children": []}, {**flat[2], "children": []}]}]
    head = {"conversationId": uid(50), "title": "T", "options": {"promptPrefix": "Be brief."}}
    for name, value in (
        ("flat", {**head, "messages": flat}),
        ("deep", {**head, "recursive": True, "messages": nested}),
    ):
        (tmp_path / name).write_text(json.dumps(value))
    (tree,), (deep,) = (read_file(tmp_path / name).trees for name in ("flat", "deep"))
    assert tree == deep
    system, asked, once, twice = tree.nodes
    assert (system.text, asked.parent, once.parent, twice.parent) == ("Be brief.", system.id, asked.id, asked.id)
    assert (once.ending, once.subject, twice.text, twice.ending) == ("length", "m", "Twice", None)
    assert asked.time == pytest.approx(1716919735.014)


def test_two_turns_of_one_id(tmp_path: Path) -> None:
    twice = [{"messageId": "a", "text": str(n), "isCreatedByUser": True} for n in range(2)]
    (tmp_path / "a.json").write_text(json.dumps({"conversationId": uid(50), "messages": twice}))
    with pytest.raises(BadData, match="two turns of the same id"):
        read_file(tmp_path / "a.json")


def test_half_an_answer_is_half_in_other_programs_too(tmp_path: Path) -> None:
    half = replace(TREE, nodes=(*TREE.nodes, Node(uid(7), uid(6), "assistant", "Gr", 7.0, None)))
    said = {}
    for format in ("chatgpt", "librechat", "open-webui"):
        export_file([half], tmp_path / format, format)
        said[format] = json.loads((tmp_path / format).read_text())
    assert said["chatgpt"][0]["mapping"][uid(7)]["message"]["status"] == "in_progress"
    assert said["librechat"]["messages"][-1]["unfinished"] is True
    assert said["open-webui"][0]["chat"]["history"]["messages"][uid(7)]["done"] is False


SHAREGPT = [
    {"system": "Be brief.", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]},
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
]  # fmt: skip


@pytest.mark.parametrize("lines", [True, False])
def test_sharegpt_as_a_list_and_as_lines(tmp_path: Path, lines: bool) -> None:
    text = "\n".join(map(json.dumps, SHAREGPT)) if lines else json.dumps(SHAREGPT, indent=2)
    (tmp_path / "a.json").write_text("\ufeff" + text)
    first, second = read_file(tmp_path / "a.json").trees
    assert [(n.role, n.text) for n in first.nodes] == [("system", "Be brief."), ("user", "Hi"), ("assistant", "Yo")]
    assert [n.parent for n in second.nodes] == [None, second.nodes[0].id]


SILLYTAVERN = "\n".join(map(json.dumps, [
    {"user_name": "Ann", "character_name": "Ada", "create_date": "2024-1-1 @10h 00m 00s 000ms", "chat_metadata": {}},
    {"name": "Ada", "is_user": False, "mes": "Hello!", "send_date": 1700000000000},
    {"name": "Ann", "is_user": True, "mes": "Tea?", "send_date": "2024-01-01T10:00:00.000Z"},
    {"name": "Ada", "is_user": False, "mes": "Aye, edited.", "swipe_id": 1, "swipes": ["No.", "Aye."],
     "swipe_info": [{"extra": {"model": "old"}}, {"extra": {"model": "new"}}]},
    {"name": "System", "is_user": False, "mes": "It rains.", "extra": {"type": "narrator"}},
]))  # fmt: skip


def test_sillytavern(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(SILLYTAVERN)
    (tree,) = read_file(tmp_path / "a.jsonl").trees
    hello, tea, no, aye, rain = tree.nodes
    assert [n.role for n in tree.nodes] == ["assistant", "user", "assistant", "assistant", "system"]
    assert (hello.time, tea.time, tree.title) == (1700000000, 1704103200, "Ada")
    assert no.parent == aye.parent == tea.id and rain.parent == aye.id
    assert (no.text, aye.text, no.subject, aye.subject) == ("No.", "Aye, edited.", "old", "new")


def test_an_order_that_has_a_child_before_its_parent(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    export_file([TREE], path, "sillytavern")
    header, *rest = path.read_text().splitlines()
    value = json.loads(header)
    value["chat_metadata"]["charactery"]["order"].reverse()
    path.write_text("\n".join([json.dumps(value), *rest]))
    store = private_store()
    assert import_file(store, path).added.new == 5
    assert [node.text for node in store.path(uid(6))] == ["Be brief.", "Tea?", "Aye.", "Green?"]
    assert store.prompt(uid(3)) == "Tea?"


# -- trouble


def own_lines() -> list[str]:
    rows, _ = FORMATS["charactery"].write(TREE)
    return [json.dumps(row) for row in rows]


def test_a_bad_line_is_set_aside_with_its_number_and_what_hangs_on_it(tmp_path: Path) -> None:
    lines = own_lines()
    lines[4] = lines[4][:-9]  # "No.", which "Why not?" follows
    path = tmp_path / "talks.jsonl"
    path.write_bytes("\n".join(lines).encode() + b'\n{"type": "turn", "id": "\xff"}\n')
    store = private_store()
    done = import_file(store, path)
    assert [(f.line, f.reason.split(":")[0][:28]) for f in done.faults] == [
        (5, "is not JSON"), (6, "follows a turn that is not i"), (9, "is not UTF-8 text (byte 24)"),
    ]  # fmt: skip
    assert done.set_aside == tmp_path / "talks.jsonl.set_aside.jsonl"
    aside = [json.loads(line) for line in done.set_aside.read_text().splitlines()]
    assert [row["line"] for row in aside] == [5, 6, 9] and aside[0]["text"] == lines[4]
    assert [n.text for n in store.tree(TREE.id).nodes] == ["Be brief.", "Tea?", "Aye.", "Green?"]
    assert store.prompt(uid(3)) == "Tea?"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"role": "captain"}, "role is 'captain'"), ({"time": "now"}, "time is 'now'"), ({"time": 1e300}, "time is"),
        ({"seed": 2**63}, "seed is"), ({"text": 5}, "text is int"), ({"text": "a\0"}, "NUL"),
        ({"text": "\ud800"}, "surrogate"), ({"turn": "x"}, "turn is no UUID"), ({"ending": "soon"}, "ending is 'soon'"),
        ({"prompt": {"kept": -1, "rest": ""}}, "prompt has no number"), ({"prompt": "x"}, "is not built like"),
        ({"type": "note"}, "its `type` is 'note'"), ({"parent": uid(99)}, "follows a turn that is not in the file"),
        ({"turn": uid(1)}, "is a second turn"),
        ({"sampler": {"top_p": [1e308 * 10]}}, "holds Infinity"), ({"sampler": {"\0": 1}}, "NUL"),
        ({"sampler": [1]}, "sampler should be"),
    ],
)  # fmt: skip
def test_what_a_line_cannot_say(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    lines = own_lines()
    lines[3] = json.dumps({**json.loads(lines[3]), **change})
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    fault = read_file(tmp_path / "a.jsonl").faults[0]
    assert fault.line == 4 and said in fault.reason


def test_a_bad_conversation_costs_no_other(tmp_path: Path) -> None:
    ring = json.loads(json.dumps(CHATGPT[0]))
    ring["mapping"]["root"]["parent"] = ring["mapping"]["q"]["parent"] = "a"
    torn = {"title": "no mapping", "mapping": {"a": {"message": {"author": {}, "content": None}}}}
    (tmp_path / "a.json").write_text(json.dumps([ring, torn, CHATGPT[0], 7], indent=1))
    contents = read_file(tmp_path / "a.json")
    assert len(contents.trees) == 1 and len(contents.faults) == 3
    assert [fault.reason for fault in contents.faults][1:] == ["lacks 'role'", "is no conversation in a known format"]
    lines = (tmp_path / "a.json").read_text().split("\n")
    assert contents.faults[0].line == 2 and lines[contents.faults[1].line] == '  "title": "no mapping",'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "1: holds no conversation"), (b"hello", "1: holds no conversation"), (b"[]", "holds no conversation"),
        (b'[{"a": 1}]', "1: is no conversation in a known format"),
        (b'[\n{"title": "x",\n"mapping": ', "3: is not JSON"), (b'[\n{"a": 1}\n{"b": 2}]', "3: is not JSON: a list br"),
        (b'[{"a": 1}] x', "1: goes on after the end"), (b'{\n"a": nope}', "2: is not JSON"),
        (b'[\n\n"\xff"]', "3: is not UTF-8 text"), ("[1]".encode("utf-16"), "1: is UTF-16"),
        (b"PK\x03\x04zip", "is a zip file"), (b"[" * 100_000, "nested too deep"), (b"[" + b"9" * 9000 + b"]", "1: "),
        (b'{"type": "turn", "id": 3}\n{"type": "turn"', "1: "), (b'[{"mapping": NaN}]', "1: holds NaN"),
        (b'{"mes": 3, "is_user": true}', "1: mes is int"), (b'{"user_name": "a"}', "1: "),
    ],
)  # fmt: skip
def test_files_that_are_none(tmp_path: Path, content: bytes, said: str) -> None:
    path, store = tmp_path / "a.json", private_store()
    path.write_bytes(content)
    with pytest.raises(BadData) as told:
        import_file(store, path)
    assert said in str(told.value) and str(path) in str(told.value)
    assert store.summaries() == []
    with pytest.raises(BadData, match="no such file"):
        import_file(store, tmp_path / "b.json")


def test_chatgpts_zip_is_read_and_no_more_of_it_than_fits(tmp_path: Path) -> None:
    packed, plain = tmp_path / "a.zip", tmp_path / "a.json"
    plain.write_text(json.dumps(CHATGPT))
    for names in (("chat.html", "conversations.json"), ("conversations.json", "../../up")):
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
            for name in names:
                out.writestr(name, plain.read_text() if name == "conversations.json" else "<b>other</b>")
        assert read_file(packed) == read_file(plain) and sorted(tmp_path.iterdir()) == [plain, packed]
    half = packed.read_bytes()
    for data, said in (
        (half[: len(half) // 2], "zip file that cannot be read"),
        (half[:40] + b"xx" + half[42:], "zip"),
    ):
        packed.write_bytes(data)
        with pytest.raises(BadData, match=said):
            read_file(packed)
    with zipfile.ZipFile(packed, "w") as out:
        out.writestr("chat.html", "<b>other</b>")
    with pytest.raises(BadData, match=r"without a conversations\.json"):
        read_file(packed)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("conversations.json", b"[" + b" " * 20_000_000)
    assert packed.stat().st_size < 50_000
    with pytest.raises(BadData, match="is more than"):
        read_file(packed)
    with pytest.raises(BadData, match="at most"):
        read_file(plain, most=10)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A file with something in it cut out, doubled or overwritten."""
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.randint(0, 40))
        data = data[:start] + rng.choice([b"", data[start:end] * 2, bytes(rng.choices(range(256), k=3))]) + data[end:]
    return data


def twisted(value: Any, rng: random.Random) -> Any:
    """A JSON value with something in it changed into something of another kind."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        return {**value, key: twisted(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        place = rng.randrange(len(value))
        return [*value[:place], twisted(value[place], rng), *value[place + 1 :]]
    return rng.choice([None, 0, -1, 1e308, True, "", "x", [], {}, [None], {"a": None}, "\ud800", uid(1)])


@pytest.mark.parametrize("format", FORMATS)
def test_whatever_is_wrong_is_said(format: str, tmp_path: Path) -> None:
    """Never anything but a sentence, and a store that holds what it held and what could be read."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    export_file([TREE], good, format)
    data, store = good.read_bytes(), private_store()
    put(store, TREE)
    values = [json.loads(line) for line in data.splitlines()] if FORMATS[format].lines else json.loads(data)
    for n in range(150):
        rng = random.Random(n)
        worse = twisted(values, rng)
        rows = (
            "\n".join(map(json.dumps, worse))
            if FORMATS[format].lines and isinstance(worse, list)
            else json.dumps(worse)
        )
        bad.write_bytes(damaged(data, rng) if n % 2 else rows.encode())
        with suppress(BadData):
            import_file(store, bad)
        assert store.tree(TREE.id).nodes[: len(TREE.nodes)] == TREE.nodes


def test_a_store_is_exported_and_comes_back(tmp_path: Path) -> None:
    store: Store = private_store()
    put(store, TREE)
    export_file([store.tree(TREE.id)], tmp_path / "all.jsonl")
    other = private_store()
    import_file(other, tmp_path / "all.jsonl")
    assert other.tree(TREE.id) == TREE
