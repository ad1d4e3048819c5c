"""The words and facts that the demo's text is made of."""

from __future__ import annotations

# Some names are spelled with letters of several bytes, so that tokens that split a letter occur.
NAMES = ("Mia", "Tom", "Zoë", "José", "Noor", "Ben", "Ada", "Søren")
PLACES = ("the old mill", "the harbour", "the café", "the little wood", "the market", "the river", "the library")
THINGS = ("lantern", "map", "kite", "key", "drum", "music box", "boat", "red hat")
FEELINGS = ("happy", "tired", "proud", "curious", "quiet", "brave")
WEATHER = ("sunny", "windy", "foggy", "cold", "warm", "rainy")
FINDS = (
    "There {name} found a {thing}.",
    "Under a stone lay a {thing}, and {name} picked it up.",
    "A man gave {name} a {thing}.",
    "{name} wanted a {thing} more than anything.",
)
TROUBLES = (
    "But the {thing} was broken.",
    "“Is that my {thing}?” asked {friend}.",
    "Then the wind took the {thing} away.",
    "{friend} did not know what the {thing} was for.",
)
HELPS = (
    "{friend} came to help, and they looked for it together.",
    "So {name} and {friend} sat down and thought.",
    "They asked everyone they met.",
    "{name} showed {friend} how it worked.",
)
ENDINGS = (
    "In the end {name} went home and was {feeling}.",
    "That night {name} was {feeling}, and {friend} was too.",
    "From that day on {name} and {friend} shared the {thing}.",
    "“Good night,” said {friend}, and {name} slept well.",
)
OPERATIONS = (
    ("add", "+", "sum"),
    ("subtract", "-", "difference"),
    ("multiply", "*", "product"),
    ("divide", "/", "quotient"),
)
CAPITALS = (
    ("France", "Paris"),
    ("Italy", "Rome"),
    ("Spain", "Madrid"),
    ("Japan", "Tokyo"),
    ("Egypt", "Cairo"),
    ("Norway", "Oslo"),
    ("Peru", "Lima"),
    ("Kenya", "Nairobi"),
    ("Canada", "Ottawa"),
    ("Cuba", "Havana"),
    ("Greece", "Athens"),
    ("Austria", "Vienna"),
)
ELEMENTS = (
    ("hydrogen", "H"),
    ("oxygen", "O"),
    ("carbon", "C"),
    ("iron", "Fe"),
    ("gold", "Au"),
    ("silver", "Ag"),
    ("helium", "He"),
)
ANIMALS = (
    ("spider", "eight"),
    ("ant", "six"),
    ("horse", "four"),
    ("hen", "two"),
    ("crab", "ten"),
    ("bee", "six"),
    ("dog", "four"),
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
