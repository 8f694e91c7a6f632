"""What tests need to know of a page, and what every page has to be."""

import itertools
import json
import re
from html.parser import HTMLParser

import plotly.graph_objects as go

from thalweg.report import look

VOID = {"meta", "link", "br", "wbr", "hr", "img", "input"}


class Page(HTMLParser):
    """What a test needs to know of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.ids, self.texts, self.scripts = [], [], [], {}
        self.crossed, self._open = [], []
        self.feed(html)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append((tag, given))
        if "id" in given:
            self.ids.append(given["id"])
        if tag not in VOID:
            self._open.append((tag, given))

    def handle_endtag(self, tag):
        while self._open and (last := self._open.pop()[0]) != tag:
            self.crossed.append((last, tag))

    def handle_data(self, data):
        tag, given = self._open[-1] if self._open else ("", {})
        if tag in ("script", "style"):
            self.scripts[given.get("id", tag)] = data
        else:
            self.texts.append(data)

    @property
    def figures(self):
        return json.loads(self.scripts["figures"])

    def check(self, links=("#", "data:")):
        """Check that the page is well formed, asks for nothing and has one order of headings.

        Elements are closed, and in the order in which they were opened; addresses begin with one
        of ``links``.
        """
        assert self.crossed == []
        assert self._open == []
        assert len(self.ids) == len(set(self.ids))
        for tag, given in self.tags:
            assert tag not in ("img", "iframe", "object", "embed", "video", "audio")
            for key in ("src", "href", "action", "data", "srcset", "poster"):
                target = given.get(key)
                assert target is None or target.startswith(links), (tag, target)
            for key in ("aria-labelledby", "aria-describedby"):
                assert given.get(key) is None or given[key] in self.ids
        policy = next(g["content"] for t, g in self.tags if g.get("http-equiv"))
        assert "default-src 'none'" in policy
        for name in ("style", "script"):
            assert not re.search(
                r"url\((?!#)|@import|https?://(?!www\.w3\.org)", self.scripts[name]
            )
        headings = [int(tag[1]) for tag, _ in self.tags if re.fullmatch(r"h[1-6]", tag)]
        assert headings.count(1) == 1
        assert all(b - a <= 1 for a, b in itertools.pairwise(headings))


def painted(value):
    """Return a figure's data with its colour names replaced by colours, as the page's script."""
    if isinstance(value, dict):
        if "$" in value:
            return look.TOKENS[value["$"]][0]
        return {key: painted(item) for key, item in value.items()}
    return [painted(item) for item in value] if isinstance(value, list) else value


def check_figure(figure):
    """Check that plotly knows a figure and all of its variants."""
    go.Figure(painted({"data": figure["data"], "layout": figure["layout"]}))
    phone = {key: v for key, v in figure["phone"].items() if key not in ("height", "cells")}
    go.Layout(painted(phone))
    for variant in figure["variants"].values():
        go.Layout(painted(variant.get("layout", {})))
        assert len(variant.get("data", figure["data"])) == len(figure["data"])
