"""The tree of everything said: fork anywhere, answer a turn again, and nothing is ever lost."""

from charactery.conversations.beside import Found, cursor, mark, marks_of, search, set_cursor, unmark
from charactery.conversations.merge import Added, put
from charactery.conversations.session import Heard, Session, Voice
from charactery.conversations.store import Glimpse, Store, Summary, Turn, open_store, private_store
from charactery.conversations.tree import Mark, Node, Prompt, Tree, Vote
from charactery.errors import Stop

__all__ = [
    "Added", "Found", "Glimpse", "Heard", "Mark", "Node", "Prompt", "Session", "Stop", "Store", "Summary", "Tree",
    "Turn", "Voice", "Vote", "cursor", "mark", "marks_of", "open_store", "private_store", "put", "search", "set_cursor",
    "unmark",
]  # fmt: skip
