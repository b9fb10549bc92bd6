"""What customers of the support unit ask, and the one answer to each."""

from __future__ import annotations

from examples.generator.topics import Topic

TOPICS = (
    Topic(
        name="invoice",
        answer="[billing] Download it under Billing.",
        goals=(
            ("download", "get", "print", "find", "see", "save"),
            (
                "my invoice",
                "the bill for last month",
                "a receipt for my order",
                "all my old invoices",
                "an invoice for my company",
                "the receipt for March",
            ),
        ),
        problems=(
            ("my invoice", "the last bill", "the receipt for my order"),
            ("is missing", "never came", "is nowhere to be found", "did not arrive by mail"),
        ),
    ),
    Topic(
        name="payment",
        answer="[billing] Add the new card under Payment.",
        goals=(
            ("change", "replace", "update", "set", "switch"),
            (
                "my credit card",
                "the bank card you use",
                "my payment method",
                "the bank card on file",
                "how I pay",
            ),
        ),
        problems=(
            ("my credit card", "my old bank card", "the card on file"),
            ("has expired", "was declined", "is no longer valid", "will run out soon"),
        ),
    ),
    Topic(
        name="charge",
        answer="[billing] We refund it within 3 days.",
        problems=(
            ("I was", "my card was", "my bank says I was", "we were", "my account was"),
            (
                "charged twice",
                "billed two times",
                "charged double",
                "charged too much",
                "billed twice for one order",
                "charged again for the same month",
            ),
        ),
        goals=(
            ("get my money back for", "report", "ask about", "complain about"),
            ("a double charge", "a wrong charge", "a second charge", "being billed twice"),
        ),
    ),
    Topic(
        name="cancel",
        answer="[billing] Cancel at any time under Plan.",
        goals=(
            ("cancel", "end", "stop", "quit", "get out of"),
            (
                "my plan",
                "the subscription",
                "the monthly pods plan",
                "my subscription",
                "the seed plan next month",
                "my contract",
            ),
        ),
        subjects=(
            ("ending", "stopping", "cancelling"),
            ("my plan", "the subscription", "the seed plan", "my contract"),
        ),
    ),
    Topic(
        name="track",
        answer="[shipping] Choose Track under Orders.",
        goals=(
            ("track", "follow", "see where I find", "locate"),
            ("my parcel", "my package", "the delivery", "the order I made", "my order on its way"),
        ),
        problems=(
            ("my parcel", "my package", "the delivery", "my order", "the order I made"),
            (
                "has not arrived",
                "is late",
                "is not here yet",
                "should have come last week",
                "seems lost on its way",
            ),
        ),
    ),
    Topic(
        name="address",
        answer="[shipping] Change the address under Orders.",
        goals=(
            ("change", "correct", "update", "edit", "fix"),
            (
                "the delivery address",
                "my address",
                "the street on my order",
                "the shipping address",
                "where you ship my order",
            ),
        ),
        problems=(
            ("I gave you", "I typed", "my order has", "the label shows"),
            ("the wrong address", "my old address", "a wrong street", "the wrong house number"),
        ),
    ),
    Topic(
        name="abroad",
        answer="[shipping] We ship abroad in 10 days.",
        goals=(
            ("order", "have a garden sent", "get a delivery", "buy something for a friend"),
            ("from abroad", "to another country", "outside the country", "overseas"),
        ),
        subjects=(
            ("shipping", "delivery", "sending a garden", "the cost of shipping"),
            ("abroad", "to another country", "overseas", "to other countries", "across the border"),
        ),
    ),
    Topic(
        name="return",
        answer="[returns] Send it back within 30 days.",
        goals=(
            ("return", "send back", "give back", "bring back"),
            (
                "the garden",
                "my order",
                "the whole set",
                "what I bought",
                "a garden I do not like",
                "a gift",
            ),
        ),
        subjects=(
            ("returning", "sending back", "giving back"),
            ("the garden", "my order", "a gift", "the whole set"),
        ),
    ),
    Topic(
        name="damaged",
        answer="[returns] Send a photo and we replace it.",
        problems=(
            ("the garden", "the glass", "the pot", "the box", "the water tank", "one tray"),
            (
                "arrived broken",
                "came with a crack",
                "is damaged",
                "was smashed on the way",
                "has a broken corner",
                "was cracked when I opened it",
            ),
        ),
    ),
    Topic(
        name="missing",
        answer="[returns] We send the missing part today.",
        problems=(
            ("the box came", "my garden came", "the set arrived", "my order came"),
            (
                "without the seeds",
                "without a plug",
                "without the screws",
                "with one part missing",
                "with two pods too few",
                "without the manual",
            ),
        ),
        goals=(
            ("get", "ask for", "order"),
            ("the missing seeds", "a missing part", "the missing screws", "the part left out"),
        ),
    ),
    Topic(
        name="password",
        answer="[account] Choose Forgot password.",
        goals=(
            ("reset", "recover", "change", "restore", "set again"),
            (
                "my password",
                "a forgotten password",
                "a lost password",
                "my login password",
                "the password of my account",
            ),
        ),
        problems=(
            ("I", "my wife and I", "we"),
            (
                "forgot the password",
                "cannot log in",
                "lost the password",
                "cannot sign in any more",
                "got locked out of the login",
            ),
        ),
    ),
    Topic(
        name="mail",
        answer="[account] Enter the new e-mail under Profile.",
        goals=(
            ("change", "update", "replace", "use a new value for", "correct"),
            (
                "my e-mail",
                "the e-mail of my account",
                "my mail contact",
                "the e-mail for my mails",
                "the e-mail on my profile",
            ),
        ),
        problems=(
            ("I have", "I now use", "we have", "you still write to"),
            ("a new e-mail", "another e-mail", "an old e-mail", "a different e-mail"),
        ),
    ),
    Topic(
        name="delete",
        answer="[account] Delete it under Privacy.",
        goals=(
            ("delete", "erase", "remove", "close", "wipe"),
            (
                "my account",
                "my profile",
                "all my data",
                "everything you know about me",
                "my personal data",
            ),
        ),
        subjects=(
            ("deleting", "erasing", "removing", "closing"),
            ("my account", "my data", "my profile", "all personal data"),
        ),
    ),
    Topic(
        name="wifi",
        answer="[device] Hold the Wi-Fi button for 5 seconds.",
        problems=(
            ("the garden", "my device", "the garden at home", "my herb garden"),
            (
                "is offline",
                "has lost the Wi-Fi",
                "does not find my network",
                "will not join the Wi-Fi",
                "drops the network",
                "has no internet",
            ),
        ),
        goals=(
            ("connect", "link", "join"),
            (
                "the garden to the Wi-Fi",
                "my device to the internet",
                "my garden to a new network",
                "a new router to the garden",
            ),
        ),
    ),
    Topic(
        name="lamp",
        answer="[device] Unplug the lamp for one minute.",
        problems=(
            ("the lamp", "the light", "my grow light", "the lamp over the herbs", "the LED light"),
            (
                "stays dark",
                "does not turn on",
                "flickers",
                "goes off at noon",
                "is dead",
                "blinks all the time",
            ),
        ),
    ),
    Topic(
        name="pump",
        answer="[device] Rinse the pump with warm water.",
        problems=(
            ("the pump", "the water pump", "the motor of the pump", "the pump in the tank"),
            (
                "is loud",
                "makes a strange noise",
                "has stopped",
                "does not move water",
                "hums all night",
                "is blocked",
                "runs dry",
            ),
        ),
    ),
)
