"""The policies of the hr unit: what employees ask, and the one answer to each. All invented."""

from __future__ import annotations

from examples.generator.topics import Topic

POLICIES = (
    Topic(
        name="holiday",
        answer="You have 28 days of holiday.",
        goals=(
            ("book", "take", "plan", "ask for"),
            ("a holiday", "two weeks of vacation", "my vacation days", "a long vacation in summer"),
        ),
        subjects=(
            ("the number of", "the yearly", "unused", "my remaining"),
            ("vacation days", "holidays", "holiday days"),
        ),
    ),
    Topic(
        name="sick",
        answer="Call us by 9 and send a doctor's note.",
        goals=(
            ("call in", "report myself", "stay home", "say that I am"),
            ("sick", "ill", "with a fever", "with the flu"),
        ),
        subjects=(
            ("being", "days when I am", "a week of being"),
            ("sick", "ill", "in bed with the flu", "at the doctor"),
        ),
    ),
    Topic(
        name="remote",
        answer="You may work from home 2 days a week.",
        goals=(
            ("work", "do my job", "spend some days", "work on Fridays"),
            ("from home", "in my home office", "remotely", "from my flat"),
        ),
        subjects=(
            ("working", "days of work", "doing the job"),
            ("from home", "in the home office", "remotely", "away from the office"),
        ),
    ),
    Topic(
        name="parental",
        answer="Parents get 16 weeks of leave.",
        goals=(
            ("take", "get", "ask for", "plan"),
            ("leave for my new baby", "parental leave", "time off for a birth", "baby leave"),
        ),
        subjects=(
            ("leave", "time off", "paid weeks"),
            ("for parents", "for a new baby", "after a birth", "for a young father"),
        ),
    ),
    Topic(
        name="expenses",
        answer="Upload the receipts within 30 days.",
        goals=(
            ("claim", "get back", "hand in", "be paid for"),
            ("travel costs", "the cost of a train ticket", "my hotel bill", "a taxi receipt"),
        ),
        subjects=(
            ("paying back", "claims for", "receipts for", "refunds of"),
            ("travel costs", "a hotel", "a taxi", "train tickets"),
        ),
    ),
    Topic(
        name="overtime",
        answer="Overtime is paid as free time.",
        goals=(
            ("log", "report", "get something for", "write down"),
            ("overtime", "extra hours", "late hours at work", "hours on a weekend"),
        ),
        subjects=(
            ("pay for", "counting", "credit for", "too many"),
            ("overtime", "extra hours", "late hours", "weekend hours"),
        ),
    ),
    Topic(
        name="training",
        answer="You have 5 days for training.",
        goals=(
            ("take", "book", "sign up for", "go to"),
            ("a course", "a training", "a language class", "a workshop"),
        ),
        subjects=(
            ("money for", "days for", "the choice of", "support for"),
            ("courses", "training", "a language class", "workshops"),
        ),
    ),
    Topic(
        name="notice",
        answer="The notice period is 3 months.",
        goals=(
            ("quit", "leave", "resign from", "end"),
            ("my job", "the company", "my work contract", "my post here"),
        ),
        subjects=(
            ("notice", "the notice period", "the last weeks", "how early to tell you"),
            ("when I quit", "when I resign", "if I leave the company", "before I leave"),
        ),
    ),
    Topic(
        name="probation",
        answer="Probation lasts 6 months.",
        goals=(
            ("pass", "finish", "get through", "end"),
            ("my probation", "the trial period", "the trial months", "the probation time"),
        ),
        subjects=(
            ("the length of", "the end of", "a talk during", "rules in"),
            ("probation", "the trial period", "the trial months"),
        ),
    ),
    Topic(
        name="referral",
        answer="You get 800 euros for a referral.",
        goals=(
            ("refer", "recommend", "suggest", "bring in"),
            ("a friend", "a former colleague", "someone I know", "my cousin for a post"),
        ),
        subjects=(
            ("the bonus for", "a reward for", "money for"),
            ("referring a friend", "a referral", "recommending someone", "bringing in a friend"),
        ),
    ),
    Topic(
        name="payday",
        answer="Salaries are paid on day 25.",
        goals=(
            ("receive", "see", "count on", "check"),
            ("my salary", "my pay slip", "my wages", "this month's salary"),
        ),
        subjects=(
            ("the day of", "the date of", "the payment of", "a delay of"),
            ("my salary", "the wages", "the pay slip", "our salaries"),
        ),
    ),
    Topic(
        name="laptop",
        answer="IT replaces laptops after 4 years.",
        goals=(
            ("get", "order", "ask for", "swap for"),
            ("a new laptop", "a faster computer", "a new notebook", "a better screen and laptop"),
        ),
        subjects=(
            ("a new", "replacing my old", "the age of my", "getting another"),
            ("laptop", "computer", "notebook"),
        ),
    ),
)
