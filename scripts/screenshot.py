#!/usr/bin/env python3
"""A picture of a real run: tmux runs the program, keys are sent, the screen is drawn to a PNG.

    pip install pillow pyte        (and a monospace font: apt install fonts-dejavu-core)
    scripts/screenshot.py OUT.png --size 120x40 -- KEYS...

KEYS are sent one after another as tmux knows them ("Enter", "C-c", or text); "wait:2.5" waits, "until:TEXT"
waits for a text on the screen, "shot:FILE.png" draws the screen as it is then. The program is target/release/tillerman with a fresh data directory, unless --command says otherwise.
"""

import argparse
import subprocess
import tempfile
import time

import pyte
from PIL import Image, ImageDraw, ImageFont

FONTS = "/usr/share/fonts/truetype/dejavu/DejaVuSansMono"
BASIC = {"black": "#1d1f21", "red": "#d0605e", "green": "#8fbf6f", "brown": "#e0b060", "blue": "#6fa3d8",
         "magenta": "#b58bd0", "cyan": "#6fc3c0", "white": "#c9ccd1", "brightblack": "#7a7f87",
         "brightred": "#ff7b78", "brightgreen": "#aee08a", "brightbrown": "#ffd080", "brightblue": "#90c0ff",
         "brightmagenta": "#d0a8f0", "brightcyan": "#90e0dc", "brightwhite": "#ffffff"}
# The first sixteen indexed colours, as pyte spells them.
INDEXED = dict(zip(["000000", "cd0000", "00cd00", "cdcd00", "0000ee", "cd00cd", "00cdcd", "e5e5e5", "7f7f7f", "ff0000",
                    "00ff00", "ffff00", "5c5cff", "ff00ff", "00ffff", "ffffff"], BASIC))
CELL_W, CELL_H, SIZE = 9, 19, 15


def colour(name, default):
    if name == "default":
        return default
    return BASIC.get(INDEXED.get(name, name)) or "#" + name


def draw(screen, path):
    regular, bold = ImageFont.truetype(FONTS + ".ttf", SIZE), ImageFont.truetype(FONTS + "-Bold.ttf", SIZE)
    picture = Image.new("RGB", (screen.columns * CELL_W + 16, screen.lines * CELL_H + 16), "#14161a")
    pen = ImageDraw.Draw(picture)
    for y in range(screen.lines):
        for x in range(screen.columns):
            cell = screen.buffer[y][x]
            front, back = colour(cell.fg, "#d8dbe0"), colour(cell.bg, "#14161a")
            if cell.reverse:
                front, back = back, front
            at = (8 + x * CELL_W, 8 + y * CELL_H)
            if back != "#14161a":
                pen.rectangle([at, (at[0] + CELL_W - 1, at[1] + CELL_H - 1)], fill=back)
            if cell.data.strip():
                pen.text(at, cell.data, font=bold if cell.bold else regular, fill=front)
    if not screen.cursor.hidden:
        at = (8 + screen.cursor.x * CELL_W, 8 + screen.cursor.y * CELL_H)
        pen.rectangle([at, (at[0] + CELL_W - 1, at[1] + CELL_H - 1)], outline="#d8dbe0")
    picture.save(path)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out")
    ap.add_argument("--size", default="120x40")
    ap.add_argument("--command", default="target/release/tillerman --home {home}")
    ap.add_argument("keys", nargs="*")
    a = ap.parse_intermixed_args()
    columns, lines = map(int, a.size.split("x"))
    name = f"shot{time.time_ns()}"
    tmux = lambda *args: subprocess.run(["tmux", "-L", name, *args], check=True, capture_output=True, text=True).stdout
    with tempfile.TemporaryDirectory() as home:
        tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(lines), a.command.format(home=home))
        try:
            tmux("set", "-g", "status", "off")
            time.sleep(1.5)
            for key in a.keys:
                if key.startswith("wait:"):
                    time.sleep(float(key[5:]))
                elif key.startswith("until:"):
                    wait_for(tmux, key[6:])
                elif key.startswith("shot:"):
                    draw(captured(tmux, columns, lines), key[5:])
                else:
                    tmux("send-keys", key)
                    time.sleep(0.15)
            time.sleep(0.4)
            draw(captured(tmux, columns, lines), a.out)
        finally:
            subprocess.run(["tmux", "-L", name, "kill-server"], capture_output=True)


def wait_for(tmux, text):
    for _ in range(1200):
        if text in tmux("capture-pane", "-p"):
            return
        time.sleep(0.1)
    raise SystemExit(f"{text!r} never came:\n" + tmux("capture-pane", "-p"))


def captured(tmux, columns, lines):
    text = tmux("capture-pane", "-e", "-p")
    x, y, shown = tmux("display-message", "-p", "#{cursor_x} #{cursor_y} #{cursor_flag}").split()
    screen = pyte.Screen(columns, lines)
    pyte.Stream(screen).feed(text.rstrip("\n").replace("\n", "\r\n"))
    screen.cursor.x, screen.cursor.y, screen.cursor.hidden = int(x), int(y), shown == "0"
    return screen


if __name__ == "__main__":
    main()
