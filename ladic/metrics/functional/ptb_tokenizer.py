"""Penn Treebank tokens of captions, as the Java tool behind COCO's published scores gives them, in pure Python.

Source of the rules: the Penn Treebank conventions (Marcus et al. 1993) and the observed output of Stanford's
PTBTokenizer 3.4.1 with ``-lowerCase``, the one that COCO's evaluation calls, on captions and on probes of each rule.
A lexer of its kind takes the longest match at each place; ``_RULES`` does the same. Then COCO's list of punctuation
tokens is dropped. The list is in capitals where the tokens are lower-cased, so brackets survive as "-lrb-".

One thing differs on purpose. The Java tool reads all captions as one text, so that a caption which ends in a single
letter and a stop ("on the letter K.") has its tokens decided by the first word of the next caption. Here a caption
stands alone: the stop stays with the letter, save after a number ("at 800 S."). Characters at which that tool starts a
new line (carriage return, vertical tab, form feed, U+0085, U+2028, U+2029) are spaces here.

Known to differ still: some 700 characters of scripts and signs outside Latin, Greek and Cyrillic (which of them stand
inside words), faces drawn with brackets or underscores such as "(^_^)" and ">_<", a backquote beside a curly quote, and
capitals run into initials ("thU.S. flag").
"""

# ruff: noqa: RUF001, SIM905  -- quotation marks of every kind are the subject; word lists read best as text

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)


def ptb_tokenize(caption: str) -> str:
    """The tokens of one caption, lower-cased, without punctuation, with single spaces between them.

    A token may hold a no-break space ("22 3/4" is one token), so take them apart with ``split(" ")``.

    Example:
        >>> ptb_tokenize("A dog isn't on Mr. Smith's well-lit (blue) couch...")
        "a dog is n't on mr. smith 's well-lit -lrb- blue -rrb- couch"
    """
    tokens: list[str] = []
    for chunk in caption.split():
        known = _alone(chunk)
        if known is None:
            return _tokenize_in_context(_SPACES.sub(" ", caption).replace("\u00ad", ""))
        if known:
            tokens.append(known)
    return " ".join(tokens)


def ptb_tokenize_all(captions: Iterable[str]) -> list[str]:
    """``ptb_tokenize`` of each."""
    return [ptb_tokenize(caption) for caption in captions]


# What stands between spaces and has the same tokens whatever is around it: nearly all of a caption, so remembered.
_ALONE = re.compile(
    r"""["'“”‘’]*[^\W\d_]+(?:['’-][^\W\d_]+)*['’]?[,;:"”]*"""  # dog  "dog's,
    r"""|["'“”‘’]*(?:[^\W\d_]+['’-])*[^\W\d_]{2,}\.["'”’]*"""  # dog.  t-shirt."
    r"""|[.,;:!?"'-]"""
)

_SIMPLE = re.compile("([A-Za-z]{2,})[.,]?")  # of those the ones that need no rule, for speed


@lru_cache(maxsize=200_000)
def _alone(chunk: str) -> str | None:
    """Tokens of what stands between two spaces, "" if it is all punctuation, None if its neighbours matter."""
    word = _SIMPLE.fullmatch(chunk)
    if word and (lower := word[1].lower()) not in _NOT_SIMPLE:
        return lower
    if not _ALONE.fullmatch(chunk) or chunk.strip("\"'“”‘’.").lower() in _BEFORE_NUMBERS:
        return None
    tokens: list[str] = []
    at = 0
    while at < len(chunk):
        at += _lex(chunk, at, tokens)
    return " ".join(tokens)


def _tokenize_in_context(text: str) -> str:
    tokens: list[str] = []
    at = 0
    while at < len(text):
        if text[at] == " ":
            at += 1
            continue
        if at == 0 or text[at - 1] == " ":
            end = text.find(" ", at)
            chunk = text[at:] if end < 0 else text[at:end]
            known = _alone(chunk)
            if known is not None:
                tokens += [known] if known else []
                at += len(chunk)
                continue
        at += _lex(text, at, tokens)
    return " ".join(tokens)


def _lex(text: str, at: int, tokens: list[str]) -> int:
    """Append the tokens of the longest match at a place; returns how many characters it consumed."""
    length = 0
    for rule, replace in _RULES:
        match = rule.match(text, at)
        if match and match.end() - at > length:
            length, best, act = match.end() - at, match, replace
    if not length:  # a character that the tool passes over
        return 1
    token = best[best.lastindex or 0]
    emitted = act(token) if act else token
    tokens += [part for part in emitted.lower().split(" ") if part and part not in PUNCTUATION]
    return len(token)


_SPACES = re.compile("[\t-\r\x1c-\x1f\x85\u1680\u2000-\u200b\u2028\u2029\u202f\u205f\u3000\ufeff]")

# Abbreviations keep their stop. Found by trying every string of up to three letters, the words of 150,000 captions and
# a list of usual English abbreviations in nine surroundings each.
_ABBREVIATIONS = (  # whatever their capitals
    "adj adm adv al ala alex apr ariz assn assoc atty aug ave bancorp bhd bldg blvd brig bros calif capt cf cie cmdr "
    "co col colo comdr conn corp cos cpl ct dak dec dept det dr drs elec ens esq est etc ext feb fla fri ft ga gen gov "
    "govs hon inc ind insp intl invt jan jos jr jul jun kan kans ky lt ltd maj mar md messrs mich minn mme mo mon mont "
    "mr mrs ms mt natl neb nev nov oct okla penn pfc ph plc pres prof pvt rd rep reps rev rt sen sens sep sept seq sfc "
    "sgt spc sq sr st ste supt sys tel tenn thu thurs tue tues univ va vs vt wed wis wisc wm wyo"
).split()
_NOT_IN_CAPITALS = "mfg mtg pte pty".split()
_ONLY_CAPITALISED = "ark az del ill la mass miss ore pa tex wash".split()
_TWO_WORDS = "cannot gonna gotta gimme lemme wanna".split()
_BEFORE_NUMBERS = frozenset("art ca fig figs no nos op pp prop".split())
# A capital one of these after a single letter and a stop begins a sentence.
_STARTERS = (
    "a an as at he if in it so we but her now one our she the yet you after other while there some many about their "
    "that this what they these more once when last here since then such however according"
).split()

_NOT_SIMPLE = frozenset([*_ABBREVIATIONS, *_NOT_IN_CAPITALS, *_ONLY_CAPITALISED, *_BEFORE_NUMBERS, *_TWO_WORDS])


def _any_case(words: Iterable[str]) -> str:
    return "(?i:" + "|".join(words) + ")"


def _capitalised(words: Iterable[str]) -> str:
    return "(?:" + "|".join(f"{word.capitalize()}|{word.upper()}" for word in words) + ")"


# The vocabulary of the rules below. Superscripts, fractions and circled numbers are word characters to ``re``.
_L = "[^\\W\\d_²³¹¼-¾\u2070-\u209f\u2150-\u218b\u2460-\u24ff]"  # a letter
_LD = rf"(?:{_L}|\d)"
_MARK = "[\u0300-\u036f\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0981-\u0e3e\u0e40-\u0e4e]"
_IN = f"(?:{_LD}|{_MARK})"  # what may stand inside a word
_WORD = rf"{_L}{_IN}*(?:[.!?]{_L}{_IN}*)*"
_NUMBER = r"(?:\d*(?:[.:,]\d+)+|\d+)"
_INITIALS = r"[A-Za-z](?:\.[A-Za-z])+\."
_FRENCH = rf"[dDoOlL]['’]{_L}{{2,}}"
_NO_CLITIC = r"(?!(?i:[smd]|re|ve|ll)(?![A-Za-z]))"
_HYPHENED = rf"{_LD}(?:{_LD}|[.,])*(?:[-\u2010\u2011](?:{_INITIALS}|{_FRENCH}|{_LD}+))+"
_SLASHED = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:\\?/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}"
_CLITIC = r"(?i:[smd]|re|ve|ll)"
_AFTER_NUMBER = "|".join(rf"(?<=\s\d{{{n}}}{stop} )" for n in range(1, 6) for stop in ("", r"\."))
_NOT = "['’‘`][tT]"

_SIGNS = (  # single characters that are tokens; others that no rule matches are passed over, among them emoji
    "!-/:-@\\[-`{-~\u0080¡-¬®-¹¼-¿×÷\u02b0-\u036f\u2010-\u2027\u2030-\u205e\u2070-\u20a0€\u2100-\u214f"
    "\u2153-\u215e\u2190-\u2bff\u3001\u3002\u3012\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0-\uffe6"
)
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">"}
_SYMBOLS = {"¢": "cents", "£": "#", "€": "$", "¤": "$", "½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}


def _one_token(token: str) -> str:
    token = token.replace(" ", "\u00a0").replace("&amp;", "&").replace("&AMP;", "&")
    for bracket, name in _BRACKETS.items():
        token = token.replace(bracket, name)
    return token


def _straight(token: str) -> str:
    return token.replace("’", "'").replace("‘", "`")


def _nothing(token: str) -> str:
    return ""


def _in_two(token: str) -> str:
    return f"{token[:3]} {token[3:]}"


def _quotes(token: str) -> str:
    return token.replace("‘", "`").replace("’", "'").replace("“", "``").replace("”", "''")


def _symbol(token: str) -> str:
    return _BRACKETS.get(token) or _SYMBOLS.get(token, token)


# (pattern, what its group 1 becomes). Everything a pattern matches counts for the length, group 1 alone is consumed.
_RULES: list[tuple[re.Pattern[str], Callable[[str], str] | None]] = [
    (re.compile(pattern), replace)
    for pattern, replace in [
        (r"""(</?[A-Za-z][\w:-]*(?:\s+[A-Za-z][\w:-]*(?:=(?:"[^"]*"|'[^']*'|[^\s"'>]+))?)*\s*/?>)""", _one_token),
        (r"(<[!?][A-Za-z-][^>]*>)", _one_token),
        # contractions
        (rf"({_any_case(_TWO_WORDS)})", _in_two),
        (r"(?i:('t)(?:is|was))", None),
        (rf"([A-Za-z]*[A-MO-Za-mo-z])[nN]{_NOT}", None),
        (rf"([nN]{_NOT})", _straight),
        (rf"(['’]{_CLITIC}(?![A-Za-z])|’{_CLITIC})", _straight),
        # words with an apostrophe of their own
        (rf"(['’][nN]['’]|'[nN](?!{_L})|’[nN]|['’](?i:em|till?|cause))", None),  # also in 'empty: "'em" and "pty"
        (r"(?i:(ol['’]|dunkin['’]|somethin['’]|li'l|nat'l|cap'n|c'mon|ma['’]am|s'mores|ne'er|e'er))", None),
        (r"(['’](?:[1-9]0[sS]|\d\d(?=\s|\Z)))", None),
        (rf"([A-HJ-MO-XZdlo]['’`]{_NO_CLITIC}{_L}{_LD}+|[Nn]['’`]{_NO_CLITIC}{_L}{{2,}})", None),  # O'Neil
        (rf"({_L}+[AEIOUYaeiouy]['’`]{_NO_CLITIC}[A-Zaeiou]{_L}*)", None),  # Hawai'i
        (rf"([dDlLjJyY]['’])(?!{_CLITIC}){_L}", _straight),
        (r"([dDlL]['’])(?!\w)", _straight),
        # words and numbers
        (rf"({_HYPHENED})", None),
        (rf"({_SLASHED})", None),
        (rf"({_LD}+(?:_{_LD}+)+)", None),
        (rf"({_WORD}|{_LD}{_IN}*)", None),
        (rf"({_WORD})['’]{_CLITIC}(?![A-Za-z])", None),  # cannot's isn't taken apart
        (rf"([-+]?{_NUMBER})", None),
        (r"(\d{1,4}[ \u00a0-]\d{1,4}\\?/\d{1,4})(?!\d)", _one_token),
        (r"(\(\d{3}\)[ \u00a0]?\d{3}[- \u00a0]\d{4}|\d{3}[ \u00a0]\d{3}[ \u00a0]\d{4})", _one_token),
        (r"([A-Z]+(?:(?:&(?:(?i:amp);)?|\+)[A-Z]+)+)", _one_token),
        # stops that stay
        (rf"((?:{_any_case(_ABBREVIATIONS)}|{_capitalised(_ONLY_CAPITALISED)})\.)", None),
        (rf"((?:{'|'.join(f'{w}|{w.capitalize()}' for w in _NOT_IN_CAPITALS)})\.)", None),
        (rf"({_any_case(_BEFORE_NUMBERS)}\.)[ \u00a0]?\d", None),
        (rf"(?:{_AFTER_NUMBER})([A-Za-z])\.\s*\Z", None),  # our choice: see the top
        (r"([A-Za-z](?:\.[A-Za-z])*\.|[Pp][Hh]\.[Dd]\.)", None),
        (rf"([A-Za-z])\.\s+{_capitalised(_STARTERS)}(?:\s|\Z)", None),
        (rf"((?:{_HYPHENED}|{_WORD}|{_LD}{_IN}*)\.)[,;:]", None),
        # addresses
        (r"""((?i:https?)://[^\s"<>|()]+[^\s"<>|().!?,;:'-])""", None),
        (r"""((?:[A-Za-z][A-Za-z0-9]*\.)+(?i:com|net|org|edu)/[^\s"<>|()]+[^\s"<>|().!?,;:'-])""", None),
        (r"""([A-Za-z0-9][^\s"<>|().]*(?:\.[^\s"<>|().]+)*@(?:[^\s"<>|().]+\.)*[^\s"<>|().]+)""", None),
        (rf"(@[A-Za-z_][A-Za-z0-9_]*|#{_L}+)", None),
        # signs
        (r"([<>]?[:;=][-o*']?[()])(?!\w)", _one_token),
        (r"([<>]?[:;=][-o*']?[DPdpO\\{@\[\]])(?!\w)", None),
        (r"(\^_\^)", None),
        (r"([A-Z]+\$)", None),
        (r"([?!]{2,}|\*+|_+|#+|@+|<<|>>|\\\*)", None),
        (r"(-{5,})", None),
        (r"(-{1,4}|[‐-―]|\.{3,}|\. \. \.|\.|…|''|``|[\"'`‛«»‹›])", _nothing),
        (r"([‘’“”]{1,2})", _quotes),
        (r"(&(?i:amp|lt|gt);)", lambda token: _ENTITIES[token.lower()]),
        (r"(&(?:quot|apos|nbsp|[mn]dash);)", _nothing),
        (
            r"((?:[A-Za-z]|&[A-Za-z](?:acute|grave|uml|circ|tilde|cedil);)*&(?:[A-Za-z](?:acute|grave|uml|circ|tilde|cedil)|#\d+);)",
            None,
        ),
        (rf"([{_SIGNS}])", _symbol),
    ]
]
