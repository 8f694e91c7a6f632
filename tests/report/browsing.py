"""Visits of a page in a real browser."""

import pytest

THEMES = {"light": "rgb(252, 252, 250)", "dark": "rgb(17, 22, 27)"}
WIDTHS = {"desktop": (1280, 900), "phone": (375, 812)}


class Visit:
    """One visit of the page, with all that it said and asked for."""

    def __init__(self, browser, file, width="desktop", theme="light"):
        x, y = WIDTHS[width]
        touch = width == "phone"
        self.context = browser.new_context(
            viewport={"width": x, "height": y},
            color_scheme=theme,
            reduced_motion="reduce",
            has_touch=touch,
            is_mobile=touch,
        )
        self.said, self.asked, self.dialogs = [], [], []
        self.context.on("request", lambda request: self.asked.append(request.url))
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.dialogs.append(dialog), dialog.dismiss()))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("html[data-ready]", state="attached")

    def hover(self, plot, trace, point):
        """Put the mouse on a point of a trace; return what the plot says there."""
        self.page.locator(f"#{plot}").scroll_into_view_if_needed()
        self.page.wait_for_timeout(100)
        at = self.page.evaluate(
            """([id, trace, point]) => {
              const plot = document.getElementById(id);
              const { _offset: left, _length: width } = plot._fullLayout.xaxis;
              const { xaxis, yaxis } = plot._fullLayout;
              const data = plot.data[trace];
              const box = plot.getBoundingClientRect();
              let x = data.x[point[0]], y = point.length > 1 ? data.y[point[1]] : data.y[point[0]];
              if (data.type === "bar") x = x / 2;
              return [box.left + left + xaxis.d2p(x), box.top + yaxis._offset + yaxis.d2p(y)];
            }""",
            [plot, trace, point],
        )
        self.page.mouse.move(at[0] - 3, at[1])
        self.page.mouse.move(*at)
        label = self.page.locator(f"#{plot} .hoverlayer")
        label.locator("text").first.wait_for()
        return label.text_content()

    def value(self, expression):
        return self.page.evaluate(expression)

    def until(self, expression, holds):
        """Wait until the value of an expression is one for which something holds; return it."""
        for _ in range(200):
            value = self.value(expression)
            if holds(value):
                return value
            self.page.wait_for_timeout(100)
        return pytest.fail(f"{expression} stayed at {value!r}")

    def close(self):
        self.context.close()
