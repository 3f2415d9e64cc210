"""Texts that tokenizers trip over: fixed ones, and random ones that never end.

Everything is bytes; what is not valid UTF-8 is decoded with errors="replace" before a judge sees it.
"""
import random
import unicodedata

# One line of words in each of many scripts: enough to meet every rule of a split.
SCRIPTS = """The quick brown fox jumps over the lazy dog. ΞΕΣΚΕΠΑΖΩ την ψυχοφθόρα βδελυγμία. Съешь же ещё этих мягких
французских булок. דג סקרן שט בים מאוכזב. نص حكيم له سر قاطع وذو شأن عظيم ٠١٢٣٤٥٦٧٨٩. ऋषियों को सताने वाले दुष्ट राक्षसों १२३.
আমার সোনার বাংলা ৪৫৬। ਪੰਜਾਬੀ ਭਾਸ਼ਾ। ગુજરાતી ભાષા। தமிழ் மொழி ௧௨௩. తెలుగు భాష ౧౨౩. ಕನ್ನಡ ಭಾಷೆ. മലയാളം ഭാഷ. සිංහල භාෂාව. เป็นมนุษย์สุดประเสริฐ ๑๒๓.
ພາສາລາວ. བོད་ཡིག ༡༢༣. မြန်မာဘာသာ ၁၂၃. ქართული ენა. Հայերեն լեզու. አማርኛ ቋንቋ ፩፪፫. ភាសាខ្មែរ ១២៣. ᠮᠣᠩᠭᠣᠯ ᠬᠡᠯᠡ. 我能吞下玻璃而不傷身體。私はガラスを食べられます。
ｶﾞﾗｽ 나는 유리를 먹을 수 있어요. ᎠᏂᏴᏫᏯ. ᚠᛇᚻ᛫ᛒᛦᚦ. 𐌼𐌰𐌲 𐌲𐌻𐌴𐍃. 𝕄𝕒𝕥𝕙 𝟘𝟙𝟚 ½ ⅓ Ⅷ ㊿ ① ². Ǆ ǅ ǆ ſ ß ẞ İ ı ŉ."""
SPACES = [" ", "  ", "   ", "\t", "\n", "\r", "\r\n", "\n\n", "\v", "\f", "\x1c", "\x85", "\xa0", "\u1680", "\u2000", "\u2003",
          "\u2009", "\u200a", "\u200b", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\ufeff", "\u180e", " \n ", "\n \n"]
CONTRACTIONS = ["'s", "'S", "'t", "'T", "'re", "'RE", "'rE", "'ve", "'Ve", "'m", "'M", "'ll", "'LL", "'lL", "'d", "'D", "'ſ", "\u2019s",
                "\u2019ll", "''s", "'l", "'r", "'v", "'x", "'", "' s", "'ß", "'K"]
MARKS = ["e\u0301", "\u0301", "a\u0323\u0302", "a\u0302\u0323", "A\u030a", "\u212b", "\u1100\u1161\u11a8", "\uac00\u11a8", "\u0915\u093c",
         "\u0958", "\u0344", "\u1e9b\u0323", "o\u0327\u0301", "o\u0301\u0327", "\u0b47\u0b3e", "\U0001d15e", "\u0f73", "\u0f71\u0f72",
         "\u3099\u304b\u3099", "\u09fe\u0323", "q\u0307\u0323", "\U00011935\U00011930", "\u1abf\u0301"]
EMOJI = ["😀", "👨‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇫🇷🇩🇪", "❤️", "☺", "1️⃣", "🫠", "🫨", "🧑🏿‍🚀", "\ufe0f"]
DIGITS = ["0", "12", "123", "1234", "3.14159", "1,000,000", "٣٤٥", "१२३४", "１２３", "²³", "Ⅷ", "½¾", "〇一二", "𝟘𝟙𝟚𝟛", "\U0001fbf5", "૦૧", "\U00011de1",
          "\U00016ff4"]
PUNCTUATION = list("!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~") + ["...", "—", "«»", "。", "！？", "://", "->", "==", "\u0000", "\u0001", "\u007f",
                                                        "\u00ad", "\u200d", "\u202e", "\ufffd", "▁", "▁▁", " ▁", "Ġ", "Ċ", "<0x41>", "<0x0"]
NEW = ["\u1c89", "\ua7cb", "\u0897", "\U00010d41", "\U0001e030", "\U0002ebf0", "\U000323af", "\U0001e4ec", "\U00031350", "\U0001cc00"]
BROKEN = [b"\xff", b"\xc0\x80", b"\xe2\x82", b"\xe2", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80", b"\xc3(", b"\xe0\x80\xaf",
          b"\xf0\x9f", b"\xfe\xfe", b"\xf5", b"\xe2\x96", b"\xc3\xc3\xa9"]
WORDS = ["Hello", "world", "the", "internationalization", "HTTPServer", "camelCase", "snake_case", "aaaa", "e", "I", "don", "x" * 40, "ﬁre", "naïve",
         "Straße", "日本語", "한국어", "привет", "مرحبا"]
# Long on purpose: what is quadratic shows.
LONG = ["a" * 3000, " " * 700, "\n" * 500, "ab" * 900, "The" * 500, "é" * 800, "語" * 900, "1" * 1000, "!" * 900, " a" * 400, "\u0301" * 400,
        "👨‍👩‍👧‍👦" * 100, "▁" * 300, "\xa0" * 300, "aab" * 400, "'s" * 300]


def fixed(specials=()):
    """A list of bytes: the same every time, for golden files."""
    texts = ["", " ", "a", "\n", "\x00", SCRIPTS, *SPACES, *(text[:400] for text in LONG)]
    texts += [unicodedata.normalize(form, SCRIPTS) for form in ("NFD", "NFKD")]
    texts += ["a".join(SPACES), "1".join(SPACES), "!".join(SPACES), "é".join(SPACES), "".join(SPACES), " ".join(SPACES)]
    for group in (CONTRACTIONS, MARKS, EMOJI, DIGITS, PUNCTUATION, NEW, WORDS):
        texts += ["".join(group), " ".join(group), "x".join(group), "\n".join(group), "9".join(group)]
    for special in specials:
        texts += [special, f"a{special}b", f" {special} ", f"a \n{special}\t b", special * 3, special[:-1], f"x{special[1:]}", special + "1"]
    if specials:
        texts.append(" mixed ".join(specials))
    data = [text.encode("utf8") for text in texts]
    data += [b"a".join(BROKEN), b"".join(BROKEN), b" ".join(BROKEN), *BROKEN, bytes(range(256)), SCRIPTS.encode("utf8")[1:-1:2]]
    return data


def random_text(rng, specials=()):
    """Bytes of a random length, mixed from everything above and from all of Unicode."""
    groups = [SPACES, SPACES, CONTRACTIONS, MARKS, EMOJI, DIGITS, PUNCTUATION, WORDS, WORDS, NEW]
    if specials:
        groups.append(list(specials))
    parts = []
    for _ in range(rng.choice((1, 2, 5, 10, 40))):
        kind = rng.random()
        if kind < 0.75:
            parts.append(rng.choice(rng.choice(groups)).encode("utf8"))
        elif kind < 0.85:
            at = rng.randrange(len(SCRIPTS) - 12)
            parts.append(SCRIPTS[at:at + rng.randrange(1, 12)].encode("utf8"))
        elif kind < 0.95:
            plane = rng.choice((0x80, 0x800, 0x3000, 0x10000, 0x20000, 0x110000))
            parts.append("".join(chr(rng.randrange(plane)) for _ in range(rng.randrange(1, 6))).encode("utf8", "replace"))
        elif kind < 0.98:
            parts.append(rng.choice(BROKEN))
        else:
            parts.append(rng.choice(LONG)[:rng.randrange(1, 200)].encode("utf8"))
    return b"".join(parts)


def random_texts(count, seed, specials=()):
    rng = random.Random(seed)
    return [random_text(rng, specials) for _ in range(count)]
