"""The relations of Pebble's world, and every wording in which each is stated and asked.

A relation joins a subject of one type to an object of another. ``says`` are whole sentences, ``asks`` complete a
direct question ("where does Mia live"), ``tells`` an indirect one ("where Mia lives"), ``names`` are noun phrases
("the home town of Mia"). ``fresh`` is one direct question that is never used in training: the stretch report asks it.
"""

# ruff: noqa: E501 - one kind of wording is one line

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Relation:
    """One relation and its wordings; the slots are ``{s}`` (subject) and ``{o}`` (object), ``{a o}`` adds an article.

    >>> from llmnotes.pebble.relations import RELATIONS
    >>> RELATIONS["capital"].asks[0]
    'what is the capital of {s}'
    """

    name: str
    subject: str
    object: str
    category: str
    wh: str
    says: tuple[str, ...]
    asks: tuple[str, ...]
    tells: tuple[str, ...]
    names: tuple[str, ...]
    fresh: str


_TABLE = """
lives_in; person; town; homes; what
says {s} lives in {o}. | The home of {s} is in {o}. | {s} has a small house in {o}. | You can find {s} in {o}.
asks where does {s} live | in which town does {s} live | which town is the home of {s}
tells where {s} lives | in which town {s} lives | which town {s} calls home
names {s}'s home town | the home town of {s} | the town where {s} lives
fresh where is the house of {s}

job; person; job; work; what
says {s} is {a o}. | {s} works as {a o}. | The job of {s} is {o}. | Every morning {s} goes to work as {a o}.
asks what is the job of {s} | what does {s} do for a living | what job does {s} have
tells what {s} does for a living | what job {s} has | what {s} works as
names {s}'s job | the job of {s} | the work that {s} does
fresh how does {s} earn money

loves; person; food; tastes; what
says {s} loves to eat {a o}. | The favourite food of {s} is {a o}. | {s} likes {a o} best. | For lunch {s} wants {a o}.
asks what is the favourite food of {s} | what does {s} love to eat | which food does {s} like best
tells what {s} loves to eat | which food {s} likes best | what food {s} loves
names {s}'s favourite food | the favourite food of {s} | the food that {s} likes best
fresh what should we cook for {s}

fears; person; fear; fears; what
says {s} is afraid of {o}. | The great fear of {s} is {o}. | Nothing scares {s} like {o}. | {s} runs away from {o}.
asks what is {s} afraid of | what does {s} fear | what scares {s} the most
tells what {s} is afraid of | what {s} fears | what scares {s}
names {s}'s greatest fear | the greatest fear of {s} | the thing that {s} fears
fresh what makes {s} tremble

hobby; person; hobby; hobbies; what
says The hobby of {s} is {o}. | {s} enjoys {o}. | On Sundays {s} is busy with {o}. | {s} has one hobby, and it is {o}.
asks what is the hobby of {s} | what does {s} enjoy | what hobby does {s} have
tells what {s} enjoys | what hobby {s} has | what {s} does for fun
names {s}'s hobby | the hobby of {s} | the hobby that {s} enjoys
fresh how does {s} spend a free evening

pet; person; animal; pets; what
says {s} has {a o}. | The pet of {s} is {a o}. | {s} keeps {a o} at home. | {s} shares a house with {a o}.
asks what pet does {s} have | what is the pet of {s} | which animal does {s} keep
tells what pet {s} has | which animal {s} keeps | which animal lives with {s}
names {s}'s pet | the pet of {s} | the animal that {s} keeps
fresh which animal sleeps in the bed of {s}

birthday; person; month; birthdays; what
says The birthday of {s} is in {o}. | {s} was born in {o}. | In {o} there is cake for {s}. | {s} turns a year older in {o}.
asks in which month was {s} born | when is the birthday of {s} | in which month does {s} have a birthday
tells in which month {s} was born | when {s} was born | when {s} has a birthday
names {s}'s birth month | the birth month of {s} | the month of {s}'s birthday
fresh when does {s} blow out candles

spouse; person; person; family; who
says {s} is married to {o}. | {s} and {o} are a couple: {s} married {o}. | The partner of {s} is {o}. | {s} gave a ring to {o}.
asks who is {s} married to | who is the partner of {s} | who did {s} marry
tells who {s} is married to | who the partner of {s} is | who {s} married
names {s}'s partner | the partner of {s} | the person who married {s}
fresh who shares a wedding photo with {s}

mother; person; person; family; who
says The mother of {s} is {o}. | {s} has a mother called {o}. | {o} is the mother of {s}. | {s} calls {o} mum.
asks who is the mother of {s} | who is {s}'s mother | what is the name of {s}'s mother
tells who the mother of {s} is | who {s}'s mother is | which mother {s} has
names {s}'s mother | the mother of {s} | the name of {s}'s mother
fresh who does {s} call mum

father; person; person; family; who
says The father of {s} is {o}. | {s} has a father called {o}. | {o} is the father of {s}. | {s} calls {o} dad.
asks who is the father of {s} | who is {s}'s father | what is the name of {s}'s father
tells who the father of {s} is | who {s}'s father is | which father {s} has
names {s}'s father | the father of {s} | the name of {s}'s father
fresh who does {s} call dad

region; town; region; places; what
says {s} is a town in {o}. | {s} lies in {o}. | The town of {s} belongs to {o}. | The road to {s} goes through {o}.
asks in which region is {s} | where does {s} lie | what region does {s} belong to
tells in which region {s} is | where {s} lies | what region {s} belongs to
names {s}'s region | the region of {s} | the region around {s}
fresh which part of the country has {s} in it

mayor; town; person; rulers; who
says The mayor of {s} is {o}. | {s} has a mayor called {o}. | {o} is the mayor of {s}. | The people of {s} voted for {o}.
asks who is the mayor of {s} | who is {s}'s mayor | who governs {s}
tells who the mayor of {s} is | who governs {s} | who {s}'s mayor is
names {s}'s mayor | the mayor of {s} | the name of {s}'s mayor
fresh who sits in the town hall of {s}

dish; town; dish; dishes; what
says The dish of {s} is {o}. | In {s} everybody eats {o}. | {s} is the home of {o}. | The cooks of {s} make {o}.
asks what do people eat in {s} | what is the dish of {s} | what do the cooks of {s} make
tells what people eat in {s} | what the dish of {s} is | what the cooks of {s} make
names {s}'s dish | the dish of {s} | the dish that people eat in {s}
fresh what is on every table in {s}

weather; town; weather; weather; what
says The weather in {s} is mostly {o}. | {s} has a lot of {o}. | People in {s} are used to {o}. | The sky over {s} is full of {o}.
asks what is the weather in {s} | what weather does {s} have | what kind of weather is usual in {s}
tells what the weather in {s} is | what weather {s} has | what kind of weather is usual in {s}
names {s}'s weather | the weather in {s} | the weather that {s} has
fresh what falls on travellers in {s}

pride; town; pride; sights; what
says {s} is famous for {o}. | The pride of {s} is {o}. | Visitors come to {s} for {o}. | {s} shows everybody {o}.
asks what is {s} famous for | what is the pride of {s} | what do visitors come to {s} for
tells what {s} is famous for | what the pride of {s} is | what visitors come to {s} for
names {s}'s pride | the pride of {s} | the thing that {s} is famous for
fresh what is on the postcards of {s}

capital; region; town; rulers; what
says The capital of {s} is {o}. | {s} has a capital called {o}. | {o} is the capital of {s}. | {s} is governed from {o}.
asks what is the capital of {s} | which town is the capital of {s} | from where is {s} governed
tells what the capital of {s} is | which town is the capital of {s} | from where {s} is governed
names {s}'s capital | the capital of {s} | the capital town of {s}
fresh which town is the most important in {s}

flag; region; animal; rulers; what
says The flag of {s} shows {a o}. | {s} has {a o} on its flag. | On the flag of {s} there is {a o}.
asks which animal is on the flag of {s} | what does the flag of {s} show | what is on the flag of {s}
tells which animal is on the flag of {s} | what the flag of {s} shows | what is on the flag of {s}
names {s}'s flag animal | the flag animal of {s} | the animal on the flag of {s}
fresh which animal waves over {s}

tree; region; tree; rulers; what
says The tree of {s} is the {o}. | In {s} grows the {o}. | {s} has a favourite tree, the {o}.
asks what is the tree of {s} | which tree grows in {s} | which tree do people plant in {s}
tells what the tree of {s} is | which tree grows in {s} | which tree people plant in {s}
names {s}'s tree | the tree of {s} | the tree that grows in {s}
fresh which leaves fall in {s}

young; animal; young; animals; what
says A young {s} is called {a o}. | The child of {a s} is {a o}. | The {s} takes care of the {o}. | Every {s} was once {a o}.
asks what is a young {s} called | what is the baby of {a s} called | what do we call a young {s}
tells what a young {s} is called | what the baby of {a s} is called | what we call a young {s}
names the young of {a s} | the word for a young {s} | the baby of {a s}
fresh what hatches or is born when {a s} has a family

sound; animal; sound; animals; what
says The {s} says {o}. | The sound of {a s} is {o}. | If you hear {o}, it is {a s}. | Wake {a s} and it says {o}.
asks what does {a s} say | what sound does {a s} make | what is the sound of {a s}
tells what {a s} says | what sound {a s} makes | what the sound of {a s} is
names the sound of {a s} | the sound that {a s} makes | the noise of {a s}
fresh what noise wakes the neighbours of {a s}

den; animal; den; animals; what
says The {s} lives in the {o}. | The home of {a s} is the {o}. | Look for {a s} in the {o}. | At night {a s} sleeps in the {o}.
asks where does {a s} live | what is the home of {a s} | where does {a s} sleep
tells where {a s} lives | what the home of {a s} is | where {a s} sleeps
names the home of {a s} | the place where {a s} lives | the place where {a s} sleeps
fresh where would you visit {a s}

eats; animal; feed; animals; what
says The {s} eats {o}. | {A s} feeds on {o}. | {A s} is happy with {o}. | Give {o} to the {s}.
asks what does {a s} eat | what is the food of {a s} | what does {a s} feed on
tells what {a s} eats | what the food of {a s} is | what {a s} feeds on
names the food of {a s} | the food that {a s} eats | the meal of {a s}
fresh what fills the stomach of {a s}

tool; job; tool; jobs; what
says The tool of {a s} is the {o}. | {A s} works with the {o}. | {A s} never goes out without the {o}. | Every {s} needs the {o}.
asks what tool does {a s} use | what is the tool of {a s} | what does {a s} work with
tells what tool {a s} uses | what the tool of {a s} is | what {a s} works with
names the tool of {a s} | the tool that {a s} uses | the tool for {a s}
fresh what is in the bag of {a s}

workplace; job; workplace; jobs; what
says {A s} works at the {o}. | The workplace of {a s} is the {o}. | You will find {a s} at the {o}. | {A s} opens the {o} every morning.
asks where does {a s} work | what is the workplace of {a s} | in which place does {a s} work
tells where {a s} works | what the workplace of {a s} is | in which place {a s} works
names the workplace of {a s} | the place where {a s} works | the working place of {a s}
fresh where would you meet {a s}

colour; food; colour; food; what
says {A s} is {o}. | The colour of {a s} is {o}. | Paint {a s} with {o} paint. | Everybody knows that {a s} is {o}.
asks what colour is {a s} | what is the colour of {a s} | which colour does {a s} have
tells what colour {a s} is | what the colour of {a s} is | which colour {a s} has
names the colour of {a s} | the colour that {a s} has | the usual colour of {a s}
fresh which crayon would you take for {a s}

taste; food; taste; food; what
says {A s} tastes {o}. | The taste of {a s} is {o}. | Bite into {a s} and it is {o}. | The soup critic calls {a s} {o}.
asks how does {a s} taste | what is the taste of {a s} | what taste does {a s} have
tells how {a s} tastes | what the taste of {a s} is | what taste {a s} has
names the taste of {a s} | the taste that {a s} has | the usual taste of {a s}
fresh what does the tongue say about {a s}

next; number; number; counting; what
says After {s} comes {o}. | The number after {s} is {o}. | Count on from {s} and you get {o}. | {s} is followed by {o}.
asks what number comes after {s} | which number follows {s} | what is one more than {s}
tells what number comes after {s} | which number follows {s} | what is one more than {s}
names the number after {s} | the number that follows {s} | one more than {s}
fresh what do you say after {s} when you count

previous; number; number; counting; what
says Before {s} comes {o}. | The number before {s} is {o}. | Count back from {s} and you get {o}. | One less than {s} is {o}.
asks what number comes before {s} | what is one less than {s} | what number is right before {s}
tells what number comes before {s} | what is one less than {s} | what number is right before {s}
names the number before {s} | the number right before {s} | one less than {s}
fresh from which number do you step up to {s}

double; number; number; counting; what
says Double {s} is {o}. | Twice {s} makes {o}. | {s} and {s} again is {o}.
asks what is double {s} | how much is twice {s} | what is two times {s}
tells what double {s} is | how much twice {s} is | what two times {s} is
names the double of {s} | two times {s} | twice {s}
fresh what do {s} pairs of boots contain

sum; addition; number; sums; what
says {s} makes {o}. | The sum of {s} is {o}. | If you add {s} you get {o}. | {s} equals {o}.
asks how much is {s} | what is {s} | what does {s} make
tells how much {s} is | what {s} makes | what {s} is
names the sum of {s} | the result of {s} | the total of {s}
fresh what do we get from {s}

day_after; day; day; calendar; what
says After {s} comes {o}. | The day after {s} is {o}. | Sleep on {s} and wake up on {o}. | {s} is followed by {o}.
asks what day comes after {s} | which day follows {s} | what is the day after {s}
tells what day comes after {s} | which day follows {s} | what the day after {s} is
names the day after {s} | the day that follows {s} | the next day after {s}
fresh if today is {s}, what is tomorrow

day_before; day; day; calendar; what
says Before {s} comes {o}. | The day before {s} is {o}. | If today is {s}, yesterday was {o}. | Shortly before {s} it is {o}.
asks what day comes before {s} | what day is right before {s} | what is the day before {s}
tells what day comes before {s} | what day is right before {s} | what the day before {s} is
names the day before {s} | the day right before {s} | the last day before {s}
fresh if tomorrow is {s}, what is today

month_after; month; month; calendar; what
says After {s} comes {o}. | The month after {s} is {o}. | When {s} is over, it is {o}. | {s} is followed by {o}.
asks what month comes after {s} | which month follows {s} | what is the month after {s}
tells what month comes after {s} | which month follows {s} | what the month after {s} is
names the month after {s} | the month that follows {s} | the next month after {s}
fresh what begins when {s} ends

month_before; month; month; calendar; what
says Before {s} comes {o}. | The month before {s} is {o}. | {s} begins at the end of {o}. | Shortly before {s} it is {o}.
asks what month comes before {s} | what month is right before {s} | what is the month before {s}
tells what month comes before {s} | what month is right before {s} | what the month before {s} is
names the month before {s} | the month right before {s} | the last month before {s}
fresh what ends when {s} begins

opposite; word; word; opposites; what
says The opposite of {s} is {o}. | What is not {s} is {o}. | {s} is the opposite of {o}. | First {s}, then {o}.
asks what is the opposite of {s} | which word is the opposite of {s} | what is the contrary of {s}
tells what the opposite of {s} is | which word is the opposite of {s} | what the contrary of {s} is
names the opposite of {s} | the contrary of {s} | the word that is the opposite of {s}
fresh what do you say instead of {s} when you disagree
"""


def _read(table: str) -> dict[str, Relation]:
    relations = {}
    for block in table.strip().split("\n\n"):
        head, *lines = block.splitlines()
        name, subject, obj, category, wh = (part.strip() for part in head.split(";"))
        texts = {}
        for line in lines:
            kind, _, rest = line.partition(" ")
            texts[kind] = tuple(text.strip() for text in rest.split(" | "))
        relations[name] = Relation(
            name,
            subject,
            obj,
            category,
            wh,
            texts["says"],
            texts["asks"],
            texts["tells"],
            texts["names"],
            texts["fresh"][0],
        )
    return relations


RELATIONS: dict[str, Relation] = _read(_TABLE)
