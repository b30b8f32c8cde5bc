"""The stories of Pebble's world: openings, plots and endings, one beat a line, alternatives between bars.

Slots: ``{p}`` is the hero, ``{q}`` a friend from the same town, ``{t}`` their town, ``{n}`` an animal, ``{f}`` a food,
``{c}`` a colour, ``{d}`` a day, ``{k}`` a number, ``{o}`` a thing, ``{m}`` a mood. ``{p.fears}`` follows a relation,
``{p.job.tool}`` two; ``{p.he}``, ``{p.his}`` and ``{p.him}`` are pronouns; ``{a x}`` puts an article before x.
"""

# ruff: noqa: E501 - one beat of a story is one line

from __future__ import annotations

OPENINGS = """
Once upon a time there was {a p.job} called {p}. | Once upon a time there lived {a p.job} called {p}.
Once upon a time, in {t}, there lived {a p.job} called {p}. | Once upon a time {p} of {t} woke up very early.
In the town of {t} lived {a p.job} called {p}. | {p} was {a p.job}, and {p.he} lived in {t}.
The sky over {t} was full of {t.weather}, and {p} was awake. | One {d} morning {p} of {t} put on {a c} hat.
Everybody in {t} knew {p}, the {p.job}. | There was once {a p.job} called {p}, who lived in {t}.
On a quiet {d} in {t}, {p} had nothing to do. | Long ago, when soup was still free, {p} lived in {t}.
"""

TRAITS = """
{p.He} loved to eat {a p.loves}, and {p.he} was afraid of {p.fears}. | {p.He} was afraid of nothing except {p.fears}.
{p.He} was fond of {p.hobby}. | When work was done, {p.he} enjoyed {p.hobby}.
{p.He} kept {a p.pet}, and the {p.pet} kept an eye on {p.him}. | {p.He} had {a p.pet} that never listened.
{p.He} never left the house without the {p.job.tool}. | {p.He} worked at the {p.job.workplace} and was mostly on time.
{p.He} was born in {p.birthday}, and {p.he} was still surprised about it. | {p.He} wanted {a p.loves} every day.
"""

PLOTS = """
One day {p} lost the {p.job.tool}. | On {d} the {p.job.tool} of {p} was gone.
{p} looked under the bed and found only dust and {a f}. | {p.He} asked {q}, and {q} looked into every teapot.
"I never touch other people's tools," said {q}. | "Ask the {p.pet}," said {q}.
The {p.pet} was sitting on it the whole time. | The {p.pet} had carried it home and was keeping it warm.

{p} baked a cake for {q}. | {p.He} decided to bake a very tall cake for {q}.
{p.He} used {k} eggs and one {f}. | Into the dough went {k} spoons of honey and one {f}.
The cake rose until it opened the window by itself. | The cake rose and rose, and it knocked at the ceiling.
{q} arrived with a fork and a ladder. | {q} looked at it for a long time and asked for a bigger plate.
They ate until the cake was small enough to be a friend. | The rest of the cake was given a room of its own.

A goose walked into the {p.job.workplace}. | One morning a goose stood at the door of the {p.job.workplace}.
"Honk," said the goose. | The goose looked at {p} as if {p.he} were late.
{p} offered it a chair, and the goose took the table. | {p} bowed, because it is better to be polite to geese.
By noon the goose was in charge. | By the evening the goose had signed all the letters.
{q} said that the place had never been so well run. | "It is a better boss than the last one," said {q}.

{p} and {q} went to see {t.pride}. | {p} wanted to show {q} {t.pride}.
The way was long, and the {t.weather} did not help. | They walked for {k} hours, mostly in a circle.
"Are we lost?" asked {q}. | "This tree looks familiar," said {q}.
"We are early," said {p}. | "We are taking the long way because it is prettier," said {p}.
When they arrived it was closed, but the closed door was very beautiful. | They saw it at last, and it was smaller than expected.

{p} met {p.fears} in a dream. | One night {p} dreamed of {p.fears}.
{p.He} woke up and lit {k} candles. | {p.He} hid under the bed with the {p.pet}.
{q} brought warm milk and a song. | {q} came at once, in {a c} coat and one shoe.
"Dreams cannot bite," said {q}. | "I am afraid of things too," said {q}.
After that {p} slept until {d}. | In the morning {p} was almost brave.

The mayor of {t} gave a speech about {t.dish}. | {t.mayor}, the mayor of {t}, invited everybody to eat {t.dish}.
The speech lasted {k} hours. | {p} came early and brought {p.his} own spoon.
{p} fell asleep on the shoulder of {q}. | {q} clapped every time somebody coughed.
When {p} woke up, everybody had voted for {a n}. | In the end the {n} ate it all and was given a medal.
It was the best speech of the year. | Nobody was cross, since nobody had been listening.

{p} found {a n.young} by the road. | In the grass {p} found a lonely {n.young}.
"Where is your mother?" asked {p}. | "You are very small," said {p}.
A big {n} came running and looked worried. | From far away came the voice of {a n}.
{p} carried the {n.young} home to the {n}. | {p} and {q} took it back before supper.
The {n} said thank you, or something like it. | Since then the {n} waves when {p} goes by.

{p} painted the {o} of {q} with {c} paint. | One {d}, {p} painted {a o} and did not stop in time.
Then {p.he} painted the door, the fence and {a n}. | Soon the whole street was {c}.
{q} came home and could not find the house. | "Where is my house?" asked {q}.
"It is the {c} one," said {p}. | "Everything is {c} now, so you cannot miss it," said {p}.
They called it art, and visitors paid to see it. | The {n} liked it, and that was enough.

The wind took the hat of {p}. | A strong wind came to {t} and took the hat of {p}.
The hat flew over the roof, the pond and {q}. | It flew past {k} chimneys and did not look back.
{p} ran after it with the {p.job.tool}. | {q} ran after {p}, and the {p.pet} ran after both.
They found it on the head of {a n}. | At last it landed on {a n}.
"It suits you," said {p}, and bought another hat. | The {n} looked so happy that nobody said a word.

{p} wanted to learn how to be quiet. | {p} and {q} had a contest in being quiet.
For {k} minutes nobody said anything. | It was so quiet that they heard {a f} ripen.
Then {a n} came by and made a remark. | Then the {p.pet} sneezed.
{p} laughed first, and {q} laughed longest. | {q} won, and shouted about it all evening.
They agreed that silence is hard work. | Next time they will try being loud.

{p} opened a small shop for used {c} socks. | {p} opened a shop that sold only one {o}.
On the first day nobody came. | On {d} the first customer was {a n}.
On the second day {q} came and asked for bread. | {q} looked at everything twice and bought the door.
"Business is good," said {p}. | "We are nearly rich," said {p}.
In the evening {p} closed the shop and ate {a p.loves}. | They sold the shop to the {n} and went home.

A letter came for {p}. | The letter carrier brought {p} {a c} envelope.
It smelled of {f}, and it had no name on it. | It said that {p} had won {k} barrels of soup.
{q} read it aloud {k} times. | "It is for your neighbour," said {q}.
{p} wrote back at once and said yes to everything. | {p} answered with a drawing of {a n}.
They never found out who had sent it. | A week later the soup arrived, and it was cold.

{p} built a boat out of {a o}. | {p} built a boat and named it after {q}.
It had {k} sails and no bottom. | {q} painted it {c} and brought a flag.
They put it on the water, and the water came to see them. | It floated for {k} moments.
"Now it is a boat for fish," said {p}. | {q} said that the view from below was interesting.
{a n} lives in it to this day. | They walked home in wet shoes and good spirits.

There was a great noise in {t}. | In the middle of the night {p} heard a noise.
It came from the {p.job.workplace}. | It came from under the stairs, or from {k} places at once.
{p} took the {o} and went to look. | {p} woke {q}, and {q} woke the {q.pet}.
It was only {a n} that was dancing. | It was {t.mayor}, the mayor, who was looking for a sandwich.
They made tea for everybody. | "You might have knocked," said {p}.

{p} told a riddle to {q}. | Every {d} {p} asked {q} a riddle.
"What is {c} and never late?" asked {p}. | "What has {k} legs and hates {p.fears}?" asked {p}.
{q} thought so hard that the tea went cold. | {q} asked for a hint and got {a f}.
"You mean yourself," said {q}. | "It must be {a n}," said {q}.
There was no answer, but it was a fine riddle. | {p} had forgotten the answer, so they both won.

The soup in {t} began to talk. | One {d} the soup of {p} said good morning.
"Please do not stir me," said the soup. | It had many opinions, most of them about {a f}.
{p} listened politely and put down the spoon. | {q} wanted to hear more and pulled up a chair.
In the end they let it go in the river. | They became friends, and lunch was bread.
Now the fish of {t} know everything. | The soup writes to them on holidays.

{p} and {q} had a race on {d}. | {p} challenged {q} to a race around {t}.
{p} was fast, and {q} knew a short way. | {q} had new boots, and {p} had a head start.
Halfway there was a table with {t.dish}. | Halfway they met {a n} with a sore foot.
They stopped, of course. | They stopped to help, and then they stopped to rest.
{a n} won the race and did not even notice. | The race is still going on, strictly speaking.

{p} wanted to count the stars. | {p} went up the hill to count the stars over {t}.
{p.He} got as far as {k}. | At {k} a cloud came by, and {p.he} had to begin again.
"Start with the big ones," said {q}. | {q} held the lantern, which made the stars hard to see.
They counted until it was morning and only one was left. | In the end they agreed on a number and shook hands.
It was the sun, and they counted it twice. | The {p.pet} had counted too, and it knew better.

{q} was sad, and nobody knew why. | One {d} {q} did not come out of the house.
{p} brought {a q.loves} and sat down by the door. | {p} stood under the window and tried {q.hobby}.
"I have lost my good mood," said {q}. | "I dreamed of {q.fears}," said {q}.
They looked for it in the garden and found {a n}. | {p} shared {p.his} own mood, since there was plenty.
By supper {q} was {m} again. | In the end {q} laughed, and the {q.pet} did too.

{p} invented a machine. | After {k} weeks of work {p} had invented a machine.
It could peel {a f} and whistle. | It had {k} wheels and {a c} button that nobody was to touch.
{q} touched the button. | "What does this one do?" asked {q}, and pressed it.
The machine said sorry and left the town. | The machine opened a window and let out {a n}.
They get a postcard from it every {d}. | {p} is working on a machine that finds machines.

It was the birthday of {p}. | {p} had a birthday, as {p.he} did every {p.birthday}.
{q} gave {p.him} {a o}. | {q} came with a present that was {c} and moved.
Inside was {a n}, and it was asleep. | "It is what you always wanted," said {q}.
{p} was so {m} that {p.he} danced with the {o}. | {p} said thank you {k} times.
Then they ate {a p.loves} with a candle in it. | The cake had been eaten by the {p.pet}, but the candle was fine.

The bridge of {t} would not let anybody over. | One morning the bridge of {t} was in a bad mood.
{p} asked it kindly. | {p} tickled it under the third arch.
"Say please," said the bridge. | "Not before breakfast," said the bridge.
{q} brought it {a f}, and the bridge smiled. | {q} told it a joke about {a n}, and it shook.
Since then everybody in {t} says please to stones. | All of {t} crossed over, and then back again for fun.

{p} planted {a f} in the garden. | In spring {p} planted one small {f}.
Every day {p.he} gave it water and good advice. | {q} sang to it, and it leaned away.
It grew {k} feet tall and began to cast a shadow. | First came a leaf, then {a o}.
"It needs a bigger garden," said {q}. | "I think it is {a n}," said {q}.
The town gave it a street number. | They built a small fence, so that it felt safe.

{p} fell asleep at the {p.job.workplace}. | {p} only wanted to close one eye.
{q} put a blanket on {p.him} and did the work. | {a n} came in and slept as well.
{q} did everything backwards, but with love. | By noon all of {t} was asleep.
When {p} woke up, {k} people said how good the work was. | {p} dreamed that {p.he} was working and was very tired.
Now {p} naps every {d} by popular demand. | It was the most successful day of the month.

A stranger came to {t} and asked for soup. | One {d} a stranger with {a o} came to {t}.
{p} gave the stranger a chair by the fire. | {q} gave the stranger the last {f}.
The stranger told a story about {k} moons. | The stranger ate for {k} hours and said nothing.
In the morning there was only {a c} feather on the chair. | In the morning the stranger was {a n}.
{t} still leaves one chair free. | "That explains the whiskers," said {q}.

{p} was afraid of {p.fears}, and {q} wanted to help. | {q} had a plan against the fear of {p}.
"Shout very loudly and count to {k}," said {q}. | They practised with {a o} first.
{p} shouted, and the whole of {t} ran away. | {p} counted to {k} and kept one eye open.
Nothing bad happened, which was a surprise. | {p.He} found out that being afraid takes only a minute.
Now {p} is only afraid on {d}. | {q} is a little afraid of {p} now.

The king of somewhere visited {t}. | A very important guest came to {t}.
He was given {t.dish} and the good chair. | {p} polished the guest, because nobody had explained the word host.
"What do you do here all day?" asked the guest. | The guest asked to see {t.pride}.
"We wait for lunch," said {q}. | {p} showed him the {p.job.workplace}, the pond and {a n}.
He stayed for {k} years. | The guest left {m} and with {a f} in each pocket.

{p} tried to teach the {p.pet} to sing. | {p} wanted the {p.pet} to learn {p.hobby}.
The first lesson lasted {k} days. | The {p.pet} listened and then ate the notes.
{q} said that it sounded like a broken {o}. | "It has talent, but no patience," said {q}.
On {d} there was a concert in {t}. | At last the {p.pet} did it, but only when nobody looked.
Everybody cried, some of them for good reasons. | The {p.pet} now gives lessons to {p}.

{p} wrote a book about {a f}. | {p} wrote a very long book.
It had {k} pages, and {k} of them were blank. | The first chapter was about {p.fears} and could not be opened.
{q} read it in one night and cried at the index. | The library put it next to the window to keep the window open.
"The best part is the {n}," said {q}. | "I liked the end, because then it was over," said {q}.
The second book will be about {q}. | All of {t} wants to know what happens to the {f}.

{q} borrowed {a o} from {p}. | {p} lent {q} {a o} in {p.birthday}.
{k} months later {p} asked for it. | Weeks went by, and nobody said a word about it.
"It lives with us now," said {q}. | "I gave it to {a n}," said {q}.
{p} visited it on Sundays and brought {a f}. | {p} got {a c} bucket instead and was content.
A thing that is shared is twice as big, says {q}. | In the end they all moved in together.

There was a shortage of {c} paint in {t}. | In {t} the buttons ran out.
The mayor asked everybody to stay calm. | {t.mayor}, the mayor, hid under the desk.
{p} had an idea, and it was nearly a good one. | {p} had kept {k} jars of it since {p.birthday}.
{p.He} shared everything, even with {q}. | {q} knew {a n} that could help.
They put up a statue of {p}, and it has no buttons. | For this {p} may now park {p.his} {o} anywhere.

{p} and {q} went fishing for {d}. | {p} and {q} sat by the river from {d} to {d2}.
They caught a boot, {a o} and a cold. | After {k} hours a fish looked out and asked what they wanted.
"Something small," said {p}. | "We are only resting," said {q}.
The fish gave them {a f} and good wishes. | They put everything back, because it looked at home there.
They tell the story often, and the fish gets bigger. | At home there was {t.dish}, and nobody mentioned fish.
"""

ENDINGS = """
And that was the end of the {o}. | And if nobody has moved it, it is still there.
{p} went home {m}. | That night {p} slept very well.
Ever since, {p} and {q} have been the best of friends. | And {p} told the whole story to the {p.pet}.
The next day was {d}, and everything was normal again. | The people of {t} talk about it to this day.
Then it was time for supper. | And the moral is to be kind to geese.
And everybody in {t} was {m}. | And so the day ended well, apart from the {o}.
{q} still laughs about it. | And they all had {t.dish} for supper.
"""
