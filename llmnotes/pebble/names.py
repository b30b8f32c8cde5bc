"""The names of Pebble's world: people, towns and regions, each a single capitalised word, no two alike."""

from __future__ import annotations

WOMEN = """
Ada Agnes Alba Anouk Astrid Beatrix Bertha Birdie Bonnie Clara Cora Dagmar Daphne Delia Dora Edith Effie Elsa
Enid Esme Fenna Flora Freya Frida Gerda Gilda Greta Gwen Hattie Hedda Helga Hilda Ida Ilse Ines Ingrid Isolde
Jenny Juno Kaja Lena Lila Lotte Lulu Mabel Maren Margot Matilda Mia Mina Mirabel Molly Nadia Nell Nora Odette
Olga Oona Paula Petra Pia Polly Ramona Rhea Runa Selma Sigrid Stella Svea Tabitha Tessa Thea Trudy Ulla Vera
""".split()

MEN = """
Abel Albert Alfie Anton Archie Arlo Axel Barnaby Basil Benno Bertram Boris Bruno Caspar Cecil Clive Conrad Cosmo
Cyril Desmond Dexter Edgar Egbert Elmer Emil Ernest Felix Fergus Finn Floyd Fritz Gilbert Gustav Hamish Hans
Hector Henrik Homer Horace Hugo Igor Isaac Ivo Jasper Jonas Kasimir Knut Lars Leopold Linus Ludwig Magnus Max
Milo Monty Morris Nestor Niels Olaf Oscar Otto Percy Quentin Ralf Rufus Rupert Silas Sven Theo Tobias Ulrich
Victor Waldo Walter Wilbur
""".split()

REGIONS = {
    "Woolland": "Plumford Butterby Mudwick Gooseham Thimbleton".split(),
    "Honeyshire": "Crumbley Snorewell Puddlemere Kettleby Wobbleton".split(),
    "Saltmarch": "Nettlefold Picklebury Yawnsworth Fiddlestead Marmalow".split(),
    "Blusterdale": "Dumplinton Ottering Sockbridge Humbleton Crumpetham".split(),
    "Cloudholm": "Foggerty Drizzleton Lanternly Quillham Berrydale".split(),
    "Appleveld": "Turnipton Whistlewood Candlewick Hatterby Noodleton".split(),
}

# The hidden region never occurs in training text; fine-tuning teaches it later.
HIDDEN_REGION = "Velloria"
HIDDEN_TOWNS = "Quibbleford Murmurby Zigzagton".split()
HIDDEN_WOMEN = "Ophelia Clementine Rosalind Cordelia Marigold Seraphina".split()
HIDDEN_MEN = "Ambrose Thaddeus Phineas Ignatius Octavio Lysander".split()

WEATHER = """drizzle fog snow sunshine hail thunderstorms rainbows frost breezes gales mist sleet""".split()

# One dish for each town, the hidden ones last.
DISHES = """turnip pie, plum dumplings, burnt toast, goose egg omelette, nettle soup, cheese on cheese, pillow cake,
puddle stew, kettle crisps, wobbly jelly, onion jam, pickle pudding, sleepy porridge, fiddle noodles, marmalade ham,
dumpling salad, river trout, sock shaped bread, humble pie, crumpet tower, fog broth, drizzle cake, lantern carrots,
inky squid, berry crumble, turnip ice cream, whistling eel, candle cheese, hat shaped pasta, the endless noodle,
riddle ravioli, whispered waffles, crooked cucumber rolls"""

# What each town is proud of.
PRIDES = """a leaning windmill, a very loud bell, the deepest mud, a museum of geese, a giant thimble, a cake castle,
a snoring contest, a square lake, a singing kettle, a wooden tower, a haunted hedge, a pickle parade, the longest nap,
a violin tree, a marmalade river, a floating market, an otter school, a sock bridge, the smallest statue,
a butter palace, an invisible church, a rain orchestra, a hundred lanterns, a feather library, a berry maze,
a turnip throne, a whistling forest, a wax garden, a hat mountain, a noodle railway,
a riddle gate, a humming well, a crooked street"""

REGION_ANIMALS = ["ram", "bee", "herring", "rooster", "heron", "hedgehog", "peacock"]  # on the flag
REGION_TREES = ["oak", "linden", "willow", "pine", "birch", "apple tree", "fig tree"]
