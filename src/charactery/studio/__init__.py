"""The studio: a page in the browser to talk to characters, fork what they said, and see all of it as a tree."""

from charactery.studio.app import create_app
from charactery.studio.desk import Desk

__all__ = ["Desk", "create_app"]
