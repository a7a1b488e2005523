"""Who and what stories are about: names, things with their everyday prices, places, shops, days. Data only."""

from __future__ import annotations

BOYS = (
    "Adam Ahmed Alex Andre Arjun Ben Brian Caleb Carlos Chen Daniel Darnell David Diego Eli Emil "
    "Ethan Felix Finn Frank "
    "George Hassan Henry Hugo Ian Isaac Ivan Jack Jamal James Jared Javier Joel John Jonah Jorge "
    "Josh Juan Kai Kevin "
    "Kofi Lars Leo Liam Luca Luis Malik Marco Mark Mateo Max Miguel Mike Milo Nathan Nick Noah "
    "Oliver Omar Oscar Owen "
    "Pablo Paul Pedro Peter Raj Ravi Ray Robert Roger Ryan Sam Samir Sean Simon Stefan Steve "
    "Theo Tim Toby Tom Tyler "
    "Victor Wei Will Yusuf Zach Andrew Andy Billy Bob Carl Harry Jacob Jake Jason Jeff Jerry Jim "
    "Jimmy Joe Matt Michael Tony"
).split()
GIRLS = (
    "Abby Aisha Alice Amara Amy Ana Anita Anna Aria Bella Beth Carla Carmen Chloe Clara Daisy "
    "Dana Diana Elena Ella "
    "Emily Emma Erin Eva Fatima Fiona Gina Grace Hana Hannah Holly Ines Iris Isabel Ivy Jade "
    "Jane Jasmine Jenna Jill "
    "Joan Julia Kara Kate Kayla Kim Lara Laura Leila Lena Lily Linda Lisa Lucy Maria Maya Megan "
    "Mei Mia Mina Molly "
    "Nadia Naomi Nina Nora Olga Olivia Paula Penny Priya Rachel Rita Rosa Ruby Ruth Sally Sara "
    "Sofia Stella Susan "
    "Tanya Tara Tina Uma Vera Wendy Yara Yuki Zara Zoe Betty Jackie Janet Jenny Karen Martha "
    "Mary Rebecca Sarah Tracy"
).split()
SURNAMES = (
    "Adams Baker Brown Chang Clark Davis Diaz Evans Flores Garcia Green Hall Hill Ito Jones Khan "
    "King Lee Lopez Miller "
    "Moore Nguyen Okafor Ortiz Park Patel Perez Reed Rossi Silva Singh Smith Stone Taylor Turner "
    "Walker White Wong Young"
).split()

# plural nouns; where the singular is not "without s", it follows the colon
COLLECTED = (
    "marbles|stickers|baseball cards|stamps|seashells|old coins|toy cars|comic books:comic book|"
    "buttons|glass beads|"
    "crayons|pencils|erasers|postcards|action figures|dolls|bottle caps|keychains|badges|"
    "balloons|ribbons|trading cards|"
    "model planes|smooth stones|feathers|storybooks|video games|puzzles|toy soldiers|magnets|gel "
    "pens|paper cranes|"
    "hair clips|rubber bands|dinosaur figures|board games|plastic blocks|pictures|shells|"
    "jellybeans|photos|seeds|colored pencils|tennis balls|candles|flower pots"
).split("|")
BAKED = (
    "cookies:cookie|cupcakes|muffins|brownies:brownie|donuts|pies:pie|bread rolls|pretzels|"
    "bagels|croissants|tarts|"
    "pancakes|waffles|cinnamon rolls|scones|loaves of bread:loaf of bread|meatballs|dumplings|"
    "tacos|sandwiches:sandwich|"
    "candies:candy|cakes|slices of pie:slice of pie|candy bars|lollipops|chocolates|caramels|granola bars"
).split("|")
PICKED = (
    "apples|oranges|pears|peaches:peach|plums|lemons|mangoes:mango|strawberries:strawberry|"
    "cherries:cherry|tomatoes:tomato|"
    "cucumbers|potatoes:potato|carrots|onions|pumpkins|watermelons|peppers|eggs|ears of corn:ear "
    "of corn|blueberries:blueberry|"
    "flowers|bananas|figs|limes|mushrooms|sunflowers|roses|tulips|daisies:daisy|zucchinis|apricots|walnuts"
).split("|")
CRAFTED = (
    "bracelets|scarves:scarf|candles|birdhouses|quilts|greeting cards|bookmarks|clay pots|"
    "baskets|bars of soap:bar of soap|"
    "paintings|necklaces:necklace|mugs|wooden toys|hats|kites:kite|picture frames|tote bags|"
    "pillows|ornaments|vases:vase|"
    "lamps|stools|rugs|puppets|key rings|earrings|T-shirts|aprons|bird feeders"
).split("|")
# what shops sell, with the lowest and the highest price of a piece
GOODS = (
    "shirts 8 30|pairs of pants:pair of pants 15 45|bags of chips:bag of chips 2 5|cakes 10 30|"
    "notebooks 2 6|pens 1 4|hats 8 25|sandwiches:sandwich 4 9|movie tickets 7 15|books 6 25|"
    "chairs 20 80|mugs 4 12|"
    "candles 3 15|pairs of socks:pair of socks 3 8|pairs of shoes:pair of shoes 25 80|pairs of "
    "jeans:pair of jeans 20 60|"
    "towels 5 18|plates 3 12|toys 5 25|lamps 15 60|packs of paper:pack of paper 3 9|bags of "
    "rice:bag of rice 4 15|"
    "boxes of cereal:box of cereal 3 6|bottles of juice:bottle of juice 2 5|pizzas 8 18|cups of "
    "coffee:cup of coffee 2 5|"
    "cans of paint:can of paint 12 35|bags of dog food:bag of dog food 10 40|tickets to the "
    "zoo:ticket to the zoo 6 20|"
    "basketballs 12 35|backpacks 18 55|water bottles 5 20|pillows 8 30|plants 4 20|sweaters 18 "
    "50|gloves:pair of gloves 6 20|"
    "jars of honey:jar of honey 5 12|cartons of milk:carton of milk 2 5|steaks 9 22|watermelons "
    "3 8|umbrellas 8 24|"
    "video games 20 60|curtains 15 45|headphones:pair of headphones 15 70|batteries:battery 1 4|"
    "light bulbs 2 7|"
    "bouquets 10 35|picture frames 6 22|balls of yarn:ball of yarn 3 10|bags of soil:bag of soil "
    "4 12|tubes of paint:tube of paint 3 9|"
    "bicycles 80 250|tables 60 200|printers 70 180|tires 50 130|jackets 35 110|skateboards 30 90"
).split("|")
FOODS = (
    "apples|bananas|eggs|slices of toast|cookies|carrots|crackers|chicken wings|granola bars|scoops of ice cream"
).split("|")
SWEETS = "cookies|candies|glasses of juice|jelly beans|cupcakes|donuts|cups of yogurt".split("|")
DRINKS = "glasses of water|bottles of juice|cups of tea|cans of soda|mugs of milk".split("|")
PROTEINS = "eggs|cups of milk|spoons of peanut butter|pieces of chicken|bowls of beans".split("|")
DEAR = (
    "bicycle|guitar|tablet|camera|skateboard|telescope|video game console|laptop|drum set|tent|"
    "new phone|keyboard|violin|pair of skis|drone|sewing machine|kayak|class trip|summer camp|"
    "trampoline"
).split("|")
ANIMALS = "cows|sheep:sheep|chickens|goats|ducks|horses:horse|rabbits|pigs|geese:goose|turkeys|llamas".split("|")
PETS = "dogs|cats|rabbits|hamsters|parrots|guinea pigs|ponies:pony|goats|puppies:puppy|kittens".split("|")
HOLDERS = (
    "boxes:box|bags|baskets|jars|packs|crates:crate|cartons|trays|bins|albums|drawers|"
    "shelves:shelf|cases:case|bundles:bundle|packages:package"
).split("|")
PACKS = "boxes:box|bags|baskets|packs|jars|trays|crates:crate|bundles:bundle".split("|")
COLOURS = "red blue green yellow white black purple orange pink brown silver golden striped small large".split()
FLAVOURS = "chocolate vanilla strawberry lemon oatmeal coconut peanut banana cherry caramel".split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
ORDINALS = "first second third fourth fifth sixth seventh eighth".split()
JOBS = (
    "waiter|babysitter|gardener|tutor|painter|cashier|mechanic|delivery driver|lifeguard|dog "
    "walker|plumber|carpenter|"
    "librarian|barber|electrician|music teacher|nurse|house cleaner|guide at the museum|photographer"
).split("|")
SHOPS = (
    "a store|the supermarket|a bakery|the farmers' market|a bookstore|the mall|a toy store|a "
    "hardware store|a flea market|"
    "the corner shop|an online shop|a garden center|a department store|the craft fair|a thrift "
    "shop|a sports store"
).split("|")
OFFERERS = "the market|the corner shop|the big store|the online shop|the mall|the outlet".split("|")
KIN = ("mother|father|sister|brother|aunt|uncle|grandmother|grandfather|cousin|best friend|neighbor|teacher").split("|")
HANDED_OUT = "bottles of water|sheets of paper|stickers|pencils|chairs".split("|")
KIN_BUT_MOTHER = KIN[1:]
CROWDS = [
    row.split("/")
    for row in (
        "students/school|children/summer camp|people/concert|guests/wedding|fans/stadium|"
        "passengers/ferry|visitors/museum|"
        "workers/factory|campers/camp|players/tournament|members/club|runners/race|"
        "musicians/orchestra|dancers/studio|"
        "employees/company|kids/birthday party|tourists/hotel|volunteers/shelter|scouts/troop|readers/library"
    ).split("|")
]
RIDES = "bus|train|subway train|tram|ferry|shuttle".split("|")
CHORES = (
    "wash a car|mow a lawn|paint a fence|iron a shirt|clean a room|bake a tray of cookies|write "
    "a letter|wrap a present|"
    "fix a bicycle|walk a dog|grade a test|knit a square|draw a portrait|plant a tree|build a "
    "shelf|sew a button|"
    "fold a basket of laundry|wash a window|peel a bag of potatoes|braid a bracelet|clean a fish "
    "tank|trim a hedge"
).split("|")
HOBBIES = (
    "practicing the piano|doing homework|reading|playing soccer|jogging|painting|studying math|"
    "gardening|swimming|"
    "cooking|watching cartoons|playing chess|riding a bike|practicing the violin|cleaning the "
    "kitchen|learning Spanish|"
    "building models|walking the dog|writing stories|dancing|doing yoga|playing video games|"
    "stretching|drawing"
).split("|")
_SINGULAR = {
    "children": "child", "grandchildren": "grandchild", "boxes": "box", "buses": "bus", "benches": "bench",
    "classes": "class", "rows of seats": "row", "shelves": "shelf", "feet": "foot", "inches": "inch",
}  # fmt: skip


def noun(entry: str) -> tuple[str, str]:
    """(plural, singular) of an entry."""
    plural, colon, singular = entry.partition(":")
    return plural, singular if colon else plural.removesuffix("s")


def singular(plural: str) -> str:
    return _SINGULAR.get(plural) or plural.removesuffix("s")
