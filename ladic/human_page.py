"""The page on which people rate captions: one HTML file with its pictures, no server, nothing sent anywhere.

Ratings are kept in the browser as they are given and saved as a file at the end. The order of the captions is drawn for
each rater from the rater's name, so that no system profits from standing first.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence

from PIL import Image

from ladic.human_study import ASPECTS, HIGHEST, LOWEST, Item, study_id

_WIDEST = 720  # pixels of a picture on the page

STYLE = """
*{box-sizing:border-box}body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:0 auto;padding:1rem 1rem 4rem;
color:#1c2330;background:#fff}h1{font-size:1.4rem}section{border-top:1px solid #d8dde6;padding:1rem 0}
img{max-width:100%;min-width:12rem;display:block;border-radius:6px;image-rendering:auto}
.caption{font-weight:600;margin:1.2rem 0 .3rem}fieldset{border:0;padding:0;margin:.15rem 0;display:flex;gap:.3rem;
align-items:center;flex-wrap:wrap}legend{float:left;width:7.5rem;color:#5a6475;padding:0}
label.rate{display:inline-flex;align-items:center;gap:.2rem;border:1px solid #c3cad6;border-radius:6px;
padding:.1rem .6rem;cursor:pointer}label.rate:has(:checked){background:#1f5fbf;color:#fff;border-color:#1f5fbf}
label.rate input{position:absolute;opacity:0}label.rate:focus-within{outline:3px solid #9bbcf0}
button{font:inherit;padding:.5rem 1.2rem;border-radius:6px;border:1px solid #1f5fbf;background:#1f5fbf;color:#fff;
cursor:pointer}button:disabled{background:#c3cad6;border-color:#c3cad6;cursor:default}input[type=text]{font:inherit;
padding:.4rem;border:1px solid #c3cad6;border-radius:6px}.bar{position:fixed;bottom:0;left:0;right:0;background:#fff;
border-top:1px solid #d8dde6;padding:.6rem 1rem;display:flex;gap:1rem;justify-content:center;align-items:center}
"""

SCRIPT = """
const study = JSON.parse(document.getElementById('study').textContent);
const store = key => 'ladic-' + study.id + '-' + key;
let rater = '', ratings = {};
const random = seed => () => { seed = (seed + 0x6D2B79F5) | 0; let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t; return ((t ^ (t >>> 14)) >>> 0) / 4294967296; };
const seedOf = text => [...text].reduce((sum, c) => (Math.imul(sum, 31) + c.codePointAt(0)) | 0, 7);
const shuffled = (list, draw) => { const out = [...list];
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(draw() * (i + 1)); [out[i], out[j]] = [out[j], out[i]]; }
  return out; };
const add = (parent, tag, text, attributes = {}) => { const node = document.createElement(tag);
  if (text !== null) node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  parent.appendChild(node); return node; };
function show() {
  const main = document.getElementById('items'), draw = random(seedOf(rater + study.id));
  main.textContent = '';
  shuffled(study.pictures, draw).forEach((picture, number) => {
    const section = add(main, 'section', null);
    add(section, 'h2', 'Picture ' + (number + 1) + ' of ' + study.pictures.length);
    add(section, 'img', null, {src: picture.source, alt: 'picture ' + (number + 1)});
    shuffled(picture.items, draw).forEach(item => {
      add(section, 'p', item.caption || '(empty)', {class: 'caption'});
      for (const aspect of Object.keys(study.aspects)) {
        const set = add(section, 'fieldset', null);
        add(set, 'legend', aspect);
        for (let value = study.lowest; value <= study.highest; value++) {
          const label = add(set, 'label', null, {class: 'rate'});
          const input = add(label, 'input', null, {type: 'radio', name: item.token + aspect, value,
            'aria-label': aspect + ' ' + value});
          add(label, 'span', String(value));
          input.checked = (ratings[item.token] || {})[aspect] === value;
          input.addEventListener('change', () => { (ratings[item.token] ||= {})[aspect] = value;
            localStorage.setItem(store(rater), JSON.stringify(ratings)); count(); });
        }
      }
    });
  });
  count();
}
function count() {
  const wanted = study.pictures.flatMap(p => p.items).length * Object.keys(study.aspects).length;
  const given = Object.values(ratings).reduce((sum, one) => sum + Object.keys(one).length, 0);
  document.getElementById('count').textContent = given + ' of ' + wanted + ' given';
  document.getElementById('save').disabled = given === 0;
}
document.getElementById('begin').addEventListener('submit', event => {
  event.preventDefault();
  rater = document.getElementById('rater').value.trim();
  if (!rater) return;
  ratings = JSON.parse(localStorage.getItem(store(rater)) || '{}');
  document.getElementById('begin').hidden = true;
  document.getElementById('bar').hidden = false;
  show();
});
document.getElementById('save').addEventListener('click', () => {
  const content = JSON.stringify({study: study.id, rater, ratings}, null, 1);
  const link = add(document.body, 'a', null, {download: 'ratings-' + rater.replace(/[^\\w-]+/g, '_') + '.json',
    href: URL.createObjectURL(new Blob([content], {type: 'application/json'}))});
  link.click(); link.remove();
});
"""


def study_page(items: Sequence[Item], pictures: Mapping[str, Image.Image], title: str) -> str:
    """The page; nothing in it says which system a caption is from.

    Args:
        items: captions of all pictures.
        pictures: by image id.
        title: heading.
    """
    shown = [
        {
            "source": _data(pictures[image_id]),
            "items": [{"token": i.token, "caption": i.caption} for i in items if i.image_id == image_id],
        }
        for image_id in dict.fromkeys(item.image_id for item in items)
    ]
    study = {"id": study_id(items), "aspects": ASPECTS, "lowest": LOWEST, "highest": HIGHEST, "pictures": shown}
    # Inside a script element only "</" could end it.
    embedded = json.dumps(study, ensure_ascii=False).replace("</", "<\\/")
    asked = "".join(f"<li><b>{html.escape(name)}</b>: {html.escape(text)}</li>" for name, text in ASPECTS.items())
    name = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width,initial-scale=1"><title>{name}</title><style>{STYLE}</style><h1>{name}</h1>'
        f"<p>Rate each caption from {LOWEST} (worst) to {HIGHEST} (best):</p><ul>{asked}</ul>"
        '<form id="begin"><label>Your name or number <input type="text" id="rater" required maxlength="40" '
        'autocomplete="off"></label> <button>Begin</button></form><main id="items"></main>'
        '<div class="bar" id="bar" hidden><span id="count" aria-live="polite"></span>'
        '<button id="save" type="button">Save ratings</button></div>'
        f'<script type="application/json" id="study">{embedded}</script><script>{SCRIPT}</script></html>\n'
    )


def _data(image: Image.Image) -> str:
    copy = image.convert("RGB")
    copy.thumbnail((_WIDEST, _WIDEST))
    buffer = io.BytesIO()
    copy.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
