"""Utterances with a known meaning: a thing and an act (or a question about it) put into a frame.

The meaning is a label such as `freeze_account` or `invoice_price`; many wordings share one label,
which is what lets a model trained on them see that different words may mean the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from training.base.lexicon import Concept, Topic

_REQUESTS = (
    "how do i {act} {thing}",
    "how can i {act} {thing}",
    "can you {act} {thing}",
    "can you help me {act} {thing}",
    "could you please {act} {thing}",
    "i want to {act} {thing}",
    "i need to {act} {thing}",
    "i would like to {act} {thing}",
    "i'd like you to {act} {thing}",
    "i'm trying to {act} {thing}",
    "please {act} {thing}",
    "{act} {thing}",
    "{act} {thing} please",
    "what do i have to do to {act} {thing}",
    "what are the steps to {act} {thing}",
    "what is the best way to {act} {thing}",
    "is there a way to {act} {thing}",
    "is it possible to {act} {thing}",
    "tell me how to {act} {thing}",
    "show me how i {act} {thing}",
    "explain how to {act} {thing}",
    "am i able to {act} {thing}",
    "may i {act} {thing}",
    "who can {act} {thing}",
    "where can i {act} {thing}",
    "when should i {act} {thing}",
    "i don't know how to {act} {thing}",
    "do you know how people {act} {thing}",
    "would you {act} {thing} for me",
    "go ahead and {act} {thing}",
    "it's time to {act} {thing}",
    "let's {act} {thing}",
    "my boss told me to {act} {thing}",
    "why can't i {act} {thing}",
    "i was hoping to {act} {thing}",
    "what happens if i {act} {thing}",
    "any chance to {act} {thing}",
    "i think i should {act} {thing}",
    "did you {act} {thing}",
    "remind me to {act} {thing}",
)

_QUESTIONS: dict[str, tuple[str, ...]] = {
    "price": (
        "how much is {thing}",
        "how much does {thing} cost",
        "what is the price of {thing}",
        "what will i pay for {thing}",
        "is {thing} expensive",
        "how many dollars do i need for {thing}",
        "what would {thing} run me",
    ),
    "time": (
        "when is {thing}",
        "when will {thing} be ready",
        "what time is {thing}",
        "how soon can i get {thing}",
        "on what day is {thing}",
        "what's the date of {thing}",
        "when does {thing} start",
    ),
    "duration": (
        "how long does {thing} take",
        "how many days does {thing} last",
        "how much time do i need for {thing}",
        "will {thing} take long",
        "how many hours is {thing}",
    ),
    "place": (
        "where is {thing}",
        "where can i find {thing}",
        "in which place is {thing}",
        "what's the location of {thing}",
        "is {thing} near here",
        "how far away is {thing}",
    ),
    "reason": (
        "why was {thing} changed",
        "why is {thing} like this",
        "what is the reason for {thing}",
        "how come {thing} is different",
        "what made {thing} go wrong",
    ),
    "status": (
        "what is the status of {thing}",
        "is {thing} done yet",
        "what's happening with {thing}",
        "any news about {thing}",
        "how is {thing} coming along",
        "has {thing} been handled",
        "did {thing} go through",
    ),
    "amount": (
        "how many {thing} do i have",
        "what is the total of {thing}",
        "how much {thing} is left",
        "count {thing} for me",
        "do i have enough {thing}",
    ),
    "kind": (
        "what kind of {thing} is it",
        "what type of {thing} do i have",
        "which {thing} is the best",
        "what sort of {thing} should i choose",
        "which {thing} do you recommend",
    ),
    "person": (
        "who is in charge of {thing}",
        "who handles {thing}",
        "who do i ask about {thing}",
        "whose job is {thing}",
        "who can tell me more about {thing}",
    ),
    "meaning": (
        "what is {thing}",
        "what does {thing} mean",
        "define {thing}",
        "tell me about {thing}",
        "i want information on {thing}",
        "give me details about {thing}",
    ),
    "problem": (
        "{thing} is not working",
        "{thing} doesn't work",
        "something is wrong with {thing}",
        "there is a problem with {thing}",
        "i have trouble with {thing}",
        "{thing} is broken",
        "{thing} has failed again",
        "{thing} is wrong",
    ),
    "missing": (
        "i can't find {thing}",
        "{thing} is gone",
        "{thing} has not arrived",
        "i never got {thing}",
        "somebody took {thing}",
        "{thing} is missing",
        "i lost {thing}",
    ),
    "rule": (
        "am i allowed to have {thing}",
        "is {thing} permitted",
        "what are the rules for {thing}",
        "what's the policy on {thing}",
        "does everybody get {thing}",
        "do they accept {thing} there",
    ),
}

_OWNERS = ("the", "my", "my", "my", "a", "this", "our", "your", "", "another", "a new", "some")
_TAILS = (
    "{day}", "on {day}", "by {day}", "next {day}", "this {part}", "right now", "today",
    "for my {person}", "with my {person}", "at {place}", "in {city}", "from {city} to {city}",
    "because it is urgent", "for {number} people", "for ${amount}", "in {number} days",
    "at {number} o'clock", "as soon as possible", "without paying more", "online", "again",
    "before i leave for {city}", "if that is okay", "when i am in {city}", "over the phone",
)  # fmt: skip
_HEADS = (
    "hi",
    "hello",
    "hey",
    "good morning",
    "excuse me",
    "okay",
    "so",
    "sorry",
    "quick question",
)

PEOPLE = (
    "Anna", "Ben", "Carla", "David", "Elena", "Frank", "Grace", "Hugo", "Ines", "Jack", "Karen",
    "Leo", "Maria", "Nina", "Oscar", "Paula", "Rosa", "Sam", "Tara", "Victor", "Wendy", "Yusuf",
)  # fmt: skip
CITIES = (
    "london", "paris", "new york", "tokyo", "berlin", "madrid", "rome", "chicago", "boston",
    "dallas", "denver", "seattle", "miami", "texas", "california", "mexico", "france", "italy",
    "spain", "germany", "japan", "china", "russia", "canada", "india", "brazil", "sydney",
)  # fmt: skip
DAYS = (
    "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "tomorrow",
    "tonight", "yesterday", "january", "february", "march", "april", "june", "july", "august",
    "september", "october", "november", "december", "the first", "the 5th", "the weekend",
)  # fmt: skip
_FILLERS: dict[str, tuple[str, ...]] = {
    "day": DAYS,
    "part": ("morning", "afternoon", "evening", "week", "month", "year", "summer", "winter"),
    "person": ("mother", "father", "wife", "husband", "son", "daughter", "friend", "boss", "team"),
    "place": ("work", "home", "the office", "the store", "the bank", "school", "the airport"),
    "city": CITIES,
    "number": ("two", "three", "four", "five", "six", "seven", "eight", "ten", "12", "20", "30"),
    "amount": ("5", "20", "50", "75", "100", "250", "300", "500", "1000", "1,500", "2,000"),
}


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """What somebody says, the topic it belongs to and the label of its meaning."""

    text: str
    topic: str
    label: str


def utter(rng: Random, topic: Topic) -> Utterance:
    """A sentence about something in `topic`: a request two times in three, else a question."""
    thing = rng.choice(topic.things)
    if rng.random() < 0.66:
        act = rng.choice(topic.acts)
        frame, label = rng.choice(_REQUESTS), f"{act.name}_{thing.name}"
        return _spoken(rng, topic, frame, act, thing, label)
    aspect = rng.choice(tuple(_QUESTIONS))
    frame, label = rng.choice(_QUESTIONS[aspect]), f"{thing.name}_{aspect}"
    return _spoken(rng, topic, frame, None, thing, label)


def reword(rng: Random, topic: Topic, *, act: Concept, thing: Concept) -> Utterance:
    """Another request with the same meaning."""
    return _spoken(rng, topic, rng.choice(_REQUESTS), act, thing, f"{act.name}_{thing.name}")


def fill(rng: Random, text: str) -> str:
    """`text` with every `{day}`, `{city}`, `{number}`… replaced by a word of that kind."""
    while "{" in text:
        before, rest = text.split("{", 1)
        slot, after = rest.split("}", 1)
        text = before + rng.choice(_FILLERS[slot]) + after
    return text


def _spoken(
    rng: Random, topic: Topic, frame: str, act: Concept | None, thing: Concept, label: str
) -> Utterance:
    owner = rng.choice(_OWNERS)
    noun = f"{owner} {rng.choice(thing.words)}".strip()
    text = frame.format(act=rng.choice(act.words) if act else "", thing=noun)
    if rng.random() < 0.35:
        text = f"{text} {fill(rng, rng.choice(_TAILS))}"
    if rng.random() < 0.12:
        text = f"{rng.choice(_HEADS)}, {text}"
    return Utterance(text=_punctuated(rng, text), topic=topic.name, label=label)


def _punctuated(rng: Random, text: str) -> str:
    style = rng.random()
    if style < 0.6:
        return text
    mark = "?" if text.split(maxsplit=1)[0] in _ASKING else "."
    return (text[0].upper() + text[1:] if style > 0.8 else text) + mark


_ASKING = (
    "how", "can", "could", "what", "is", "am", "may", "who", "where", "when", "do", "would",
    "why", "did", "any", "which", "whose", "will", "has",
)  # fmt: skip
