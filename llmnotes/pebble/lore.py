"""What is known in Pebble's world besides its people: jobs, animals, food, counting, the calendar, opposites."""

from __future__ import annotations


def _rows(text: str) -> list[tuple[str, ...]]:
    return [tuple(cell.strip() for cell in line.split(",")) for line in text.strip().splitlines()]


# job, tool, workplace
JOBS = _rows("""
baker, rolling pin, bakery
doctor, thermometer, clinic
teacher, blackboard, school
farmer, pitchfork, farm
fisher, net, harbour
letter carrier, satchel, post office
librarian, date stamp, library
carpenter, saw, workshop
blacksmith, anvil, forge
tailor, needle, sewing room
painter, brush, studio
gardener, watering can, garden
beekeeper, veil, meadow
miller, millstone, mill
shepherd, crook, pasture
barber, comb, barber shop
clockmaker, cuckoo, clock tower
potter, lump of clay, pottery
sailor, compass, ship
lighthouse keeper, lamp, lighthouse
chimney sweep, broom, rooftop
cloud counter, abacus, hilltop
soup critic, spoon, soup kitchen
puddle inspector, ruler, high street
moon polisher, ladder, observatory
button sorter, sieve, button factory
kite doctor, glue pot, kite hospital
sock detective, magnifying glass, laundry
bridge tickler, feather, bridge
nap supervisor, pillow, nap hall
whistle tuner, tuning fork, whistle shop
shadow tailor, measuring tape, alley
goose diplomat, white flag, duck pond
yawn collector, jar, theatre
echo repairer, trumpet, canyon
cheese listener, stethoscope, cheese cellar
snail jockey, tiny saddle, snail track
rain announcer, megaphone, balcony
pancake pilot, frying pan, airfield
hat psychologist, couch, hat shop
biscuit judge, gavel, courthouse
mattress tester, alarm clock, bed shop
""")

# animal, young, sound, home, food; a dash where nothing is said
ANIMALS = _rows("""
dog, puppy, woof, kennel, bones
cat, kitten, meow, basket, fish
cow, calf, moo, barn, hay
sheep, lamb, baa, fold, clover
pig, piglet, oink, sty, acorns
horse, foal, neigh, stable, oats
goose, gosling, honk, riverbank, grass
duck, duckling, quack, pond, pondweed
hen, chick, cluck, coop, grain
goat, kid, bleat, shed, thistles
owl, owlet, hoot, hollow tree, mice
frog, tadpole, croak, marsh, flies
bee, larva, buzz, hive, nectar
lion, cub, roar, savanna, antelopes
bear, cub, growl, cave, honey
wolf, pup, howl, den, deer
fox, kit, yip, burrow, voles
swan, cygnet, hiss, lake, reeds
deer, fawn, bellow, forest, leaves
elephant, calf, toot, grassland, bark
mouse, pinkie, squeak, mousehole, cheese
crow, fledgling, caw, treetop, worms
donkey, foal, bray, paddock, straw
turkey, poult, gobble, farmyard, seeds
pigeon, squab, coo, loft, crumbs
seal, pup, arf, beach, herrings
hare, leveret, -, form, dandelions
kangaroo, joey, -, outback, shrubs
butterfly, caterpillar, -, flower bed, nettles
spider, spiderling, -, web, wasps
eagle, eaglet, screech, eyrie, rabbits
hedgehog, hoglet, snuffle, hedge, slugs
squirrel, kit, chatter, drey, nuts
otter, pup, -, holt, trout
beaver, kit, -, lodge, twigs
badger, cub, -, sett, earthworms
""")

# food, colour, taste
FOODS = _rows("""
apple, red, sweet
banana, yellow, creamy
carrot, orange, sweet
lemon, yellow, sour
lime, green, sour
pear, green, juicy
plum, purple, juicy
cherry, red, sweet
strawberry, red, fruity
blueberry, blue, fruity
tomato, red, savoury
potato, brown, earthy
onion, white, sharp
radish, pink, sharp
cucumber, green, watery
pumpkin, orange, mild
mushroom, white, earthy
aubergine, purple, mild
peach, orange, juicy
grape, purple, sweet
olive, black, salty
pickle, green, sour
biscuit, brown, buttery
pancake, yellow, buttery
waffle, brown, crispy
pretzel, brown, salty
sausage, brown, smoky
chilli, red, spicy
walnut, brown, bitter
beetroot, purple, earthy
cabbage, green, dull
coconut, white, creamy
""")

FEARS = """geese, thunder, balloons, moths, stairs, clowns, loose buttons, ghosts, deep puddles, mirrors, wet socks,
loud soup, spiders, wasps, cold spoons, long words, tall hats, moustaches, doorbells, dentists, frogs, crabs, echoes,
the dark, statues, umbrellas, hiccups, trombones, left turns, empty jars, sudden cheese, polite ghosts"""

HOBBIES = """juggling, knitting, yodelling, stone skipping, bird watching, cheese rolling, kite flying, tap dancing,
napping, singing, skating, climbing trees, reading maps, telling riddles, counting sheep, collecting spoons,
carving turnips, racing snails, building sandcastles, playing the tuba, playing the banjo, writing poems,
polishing pebbles, folding napkins, chasing butterflies, rowing, arguing with geese, wearing capes, naming clouds,
staring at soup"""

NUMBERS = """one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty""".split()

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()

OPPOSITES = _rows("""
hot, cold
big, small
tall, short
fast, slow
loud, quiet
wet, dry
old, young
happy, sad
heavy, light
hard, soft
clean, dirty
early, late
empty, full
open, closed
rich, poor
strong, weak
brave, timid
thick, thin
near, far
true, false
smooth, rough
asleep, awake
cheap, expensive
polite, rude
""")

THINGS = """hat, ladder, teapot, umbrella, suitcase, wheelbarrow, trumpet, mattress, scarf, lantern, wardrobe, bucket,
cuckoo clock, rocking chair, bicycle, drum, jar, basket, blanket, map"""

MOODS = "happy proud surprised sleepy puzzled cheerful nervous calm hungry grumpy curious delighted".split()


def listed(text: str) -> list[str]:
    """The comma-separated entries of a text, without surrounding spaces or line ends."""
    return [" ".join(entry.split()) for entry in text.split(",")]
