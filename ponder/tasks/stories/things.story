# Things that people have: bought, collected, baked, picked; then gained, lost, given, packed, shared, sold, compared.

story things: owned, owned, grouped, grouped, coloured, compared, daily, dozens, baked, picked, twice_a_day, kept_back

moves things: gain gain lose lose multiply halve give_fraction/2 give_percent/2 gain_groups/2 give_each/2 pack share!
  share use_daily! how_many_more! more_than! together! together_compared/2! sell_all sell_all
moves packs: sell_packs sell_packs packs_given
moves share: share_after!

NOW = How many {things} does {p} have [now|in total|now|altogether]?
LEFT = How many {things}
  [does {p} have left|are left|does {p} still have|remain|does {p} have now|are there left]?

owned:
  p = person(); things, thing = thing(COLLECTED, PICKED, BAKED); v = some(8, 150); shop = pick(SHOPS); kin = pick(KIN)
  say [{p} <has/had> {v} {things}[| in {p.his} room| at home| in a big box| in {p.his} bag].
    |{p} <buys/bought> {v} {things}[| at {shop}| for {p.his} {kin}|].
    |{p} <starts/started> the [day|week|month] with {v} {things}.
    |{p} <gets/got> {v} {things} [from {p.his} {kin}|as a present|for {p.his} birthday].
    |[There <are/were> {v} {things} in {p}'s [basket|box|drawer|kitchen|bag].]]
  -> things | NOW

grouped:
  p = person(); things, thing = thing(COLLECTED, PICKED, BAKED); holders, holder = thing(HOLDERS)
  a = some(2, 12); b = some(3, 24); shop = pick(SHOPS)
  say [{p} <has/had> {a} {holders} of {things}. [Each {holder} <holds/held> {b} {things}.
      |There <are/were> {b} {things} in each {holder}.|Every {holder} <has/had> {b} {things} in it.]
    |{p} <has/had> {a} {holders} with {b} {things} in each [{holder}|one].
    |{p} <buys/bought> {a} {holders} of {things} that <contain/contained> {b} {things} each.
    |{p} <keeps/kept> {p.his} {things} in {a} {holders} of {b} each.
    |{things} <come/came> in {holders} of {b}. {p} <buys/bought> {a} {holders}[| at {shop}].]
  v = a * b | {a} {holders} of {b} make # {things}
  -> things | NOW

coloured:
  p = person(); things, thing = thing(COLLECTED); one, two = sample(COLOURS, 2); a = some(4, 60); b = some(4, 60)
  say [{p} <has/had> {a} {one} {things} and {b} {two} {things}.|{p} <finds/found> {a} {one} {things} and {b} {two} ones.
    |In {p.his} collection, {p} <has/had> {a} {one} and {b} {two} {things}.
    |A box <contains/contained> {a} {one} and {b} {two} {things}. It <belongs/belonged> to {p}.]
  v = a + b | Together that is # {things}
  -> things | NOW

compared:
  q = person(); p = person(); things, thing = thing(COLLECTED, PICKED, CRAFTED); n = some(6, 60)
  k = pick(2, 2, 3, 3, 4, 5); got = pick("<has/had>", "<collects/collected>", "<buys/bought>", "<finds/found>")
  how = pick("times", "more", "fewer", "half")
  if how == "times":
    many = times(k)
    say {q} {got} {n} {things}. {p} {got} {many} as many[ {things}|] as {q}.
    v = n * k | {p} has # {things}
  else if how == "half":
    n = n * 2
    say {q} {got} {n} {things}, and {p} {got} half as many.
    v = n / 2 | {p} has # {things}
  else:
    if how == "more":
      d = some(2, 20)
    else:
      d = part(n, 0.1, 0.6)
    say [{q} {got} {n} {things}. {p} {got} {d} {how} than {q}.|{p} {got} {d} {how} {things} than {q}, who {got} {n}.
      |{q} {got} {n} {things} and {p} {got} {d} {how} than that.]
    if how == "more":
      v = n + d | {p} has # {things}
    else:
      v = n - d | {p} has # {things}
  -> things | NOW

daily:
  p = person(); things, thing = thing(PICKED, CRAFTED, COLLECTED); a = some(3, 25); d = some(2, 9)
  does = pick("<makes/made>", "<collects/collected>", "<packs/packed>", "<gathers/gathered>", "<sorts/sorted>")
  span = pick("day", "day", "week", "hour")
  if span == "day" and chance(0.3):
    d = 7
    say {p} {does} {a} {things} [a|every|each|per] day for a [whole |]week.
  else:
    say [{p} {does} {a} {things} [a|every|each|per] {span} for {d} {span}s.
      |[Every|Each] {span}, {p} {does} {a} {things}. {p.He} <does/did> this for {d} {span}s.]
  v = a * d | In {d} {span}s that makes # {things}
  -> things | NOW

dozens:
  p = person(); things, thing = thing(BAKED, PICKED); k = some(2, 9); day = pick(WEEKDAYS)
  say {p} [<buys/bought>|<gets/got>|<orders/ordered>|<picks/picked> up|<has/had>] {k} dozen {things}[| for a party
    | for the school fair| for {p.his} friends| on {day}].
  v = k * 12 | {k} dozen are # {things}
  -> things | NOW

baked:
  p = person(); things, thing = thing(BAKED); a = some(2, 9); b = some(6, 30)
  occasion = pick("a bake sale", "a wedding", "the school fair", "a birthday party")
  say [{p} <bakes/baked> {a} [trays|batches|pans] of {things} with {b} {things} in each.
    |One batch of dough <is/was> enough for {b} {things}. {p} <makes/made> {a} batches[| for {occasion}].
    |{p} <can/could> make {b} {things} from one bag of flour. {p.He} <uses/used> {a} bags of flour[| for {occasion}].
    |For {occasion}, {p} <makes/made> {a} trays of {b} {things} each.]
  v = a * b | {p} makes # {things}
  -> things | NOW

picked:
  p = person(); things, thing = thing(PICKED); a = some(3, 20); b = some(4, 30)
  plant, plants = one of row / rows | bush / bushes | tree / trees | patch / patches | bed / beds
  say [{p}'s garden <has/had> {a} {plants}, and {p.he} <picks/picked> {b} {things} from each {plant}.
    |{p} <grows/grew> {things} on {a} {plants}. Each {plant} <gives/gave> {b} {things}.
    |A farmer named {p} <plants/planted> {a} {plants}, and every {plant} <yields/yielded> {b} {things}.]
  v = a * b | {p} picks # {things}
  -> things | NOW

twice_a_day:
  p = person(); things, thing = thing(PICKED, CRAFTED); a = some(2, 15); b = some(2, 15); d = some(2, 8)
  say [{p} <gathers/gathered> {a} {things} every morning and {b} every evening for {d} days.
    |Every day, {p} <makes/made> {a} {things} before lunch and {b} {things} after lunch.
      {p.He} <works/worked> for {d} days.]
  each = a + b | Every day that is # {things}
  v = each * d | In {d} days that makes # {things}
  -> things | NOW

kept_back:
  p = person(); things, thing = thing(PICKED, BAKED); n = some(15, 120); a = part(n, 0.1, 0.4)
  say [{p} <buys/bought> {n} {things}, but {a} of them <are/were> [rotten|bad|spoiled|damaged].
    |Out of {n} {things} that {p} <has/had>, {a} <have/had> gone bad and <are/were> thrown away.
    |{p} <carries/carried> {n} {things} home, but {p.he} <drops/dropped> {a} of them on the way.]
  v = n - a | {p} has # good {things}
  -> things | LEFT

# ---- what can happen to them

gain:
  a = some(2, 50); then = then(); kin = pick(KIN)
  say [{then}, {p.he} <buys/bought> {a} more[ {things}|].|{then}, {p.his} {kin} <gives/gave> {p.him} {a} more {things}.
    |{p.He} then <gets/got> {a} more[| from {p.his} {kin}].|{then}, {p.he} <finds/found> another {a} {things}.
    |{p.His} {kin} <adds/added> {a} {things}[| of {p.his} own].]
  v = v + a | Then {p} has # {things}
  -> things | NOW

lose:
  a = part(v); q = person(); then = then()
  say [{then}, {p.he} <gives/gave> {a} of them to {q}.|{p.He} <loses/lost> {a} of them[| on the way home| at the park].
    |{then}, {p.he} <gives/gave> {q} {a} {things}.|{p.He} <uses/used> {a} of the {things}[| that day].
    |{then}, {a} of them <get/got> [lost|broken|damaged].|{p.He} <sells/sold> {a} of them[| to {q}].
    |{q} <takes/took> {a} of the {things}.|{then}, {p.he} <donates/donated> {a} {things} to charity.]
  v = v - a | That leaves # {things}
  -> things | LEFT

multiply:
  k, double = one of 2 / double | 2 / double | 3 / triple
  then = then(); kin = pick(KIN)
  say [{then}, {p.he} <{double}s/{double}d> the number of {things} {p.he} <has/had>.
    |By the end of the [month|year|week], the number of {things} had {double}d.
    |{then}, {p.his} {kin} <gives/gave> {p.him} enough {things} to {double} what {p.he} <has/had>.]
  v = v * k | Then {p} has # {things}
  -> things | NOW

halve:
  need whole(v / 2)
  q = person(); then = then(); day = pick(WEEKDAYS)
  say [{then}, {p.he} <gives/gave> half of them to {q}.|{then}, {p.he} <gives/gave> {q} half of the {things}.
    |{p.He} <uses/used> half of the {things}[| for a project].|Half of them <are/were> [gone|given away] by {day}.
    |{then}, {p.he} <loses/lost> half of them.]
  v = v / 2 | Half of them is # {things}
  -> things | LEFT

give_fraction:
  k = divisor(v, 3, 6); q = person(); f = fraction(k); then = then(); day = pick(WEEKDAYS)
  say [{then}, {p.he} <gives/gave> {f} of them to {q}.|{then}, {p.he} <sells/sold> {f} of the {things}.
    |{p.He} <uses/used> {f} of the {things} [on {day}|that day].|{f} of them <are/were> [broken|eaten|given away].]
  gone = v / k | 1/{k} of them is # {things}
  v = v - gone | That leaves # {things}
  -> things | LEFT

give_percent:
  x = pick(10, 20, 20, 25, 30, 40, 50, 60, 75)
  need whole(v * x / 100)
  then = then(); kin = pick(KIN); day = pick(WEEKDAYS)
  say [{then}, {p.he} <gives/gave> {x}% of them away.|{p.He} <sells/sold> {x}% of the {things}[| on {day}].
    |{then}, {x}% of the {things} <are/were> [lost|sold|used].|{p.His} {kin} <takes/took> {x}% of them.]
  gone = v * (x / 100) | {x}% of them is # {things}
  v = v - gone | That leaves # {things}
  -> things | LEFT

gain_groups:
  a = some(2, 8); b = some(3, 15); holders, holder = thing(HOLDERS); then = then(); kin = pick(KIN)
  say [{then}, {p.he} <buys/bought> {a} {holders} of {b} {things} each.
    |{p.His} {kin} <gives/gave> {p.him} {a} more {holders} with {b} {things} in each.
    |{then}, {p.he} <gets/got> {a} {holders} more, and each {holder} <has/had> {b} {things}.
    |{then}, each of {p.his} {a} friends <gives/gave> {p.him} {b} {things}.]
  more = a * b | {a} times {b} is # more {things}
  v = v + more | Then {p} has # {things}
  -> things | NOW

give_each:
  m = some(2, 8); a = some(2, 12)
  need m * a < v - 1
  then = then()
  say [{then}, {p.he} <gives/gave> {a} {things} to each of {p.his} {m} [friends|cousins|classmates|neighbors].
    |{p.He} <gives/gave> {a} each to {m} [friends|children|students].
    |{then}, {m} friends each <take/took> {a} of the {things}.|{p.He} <uses/used> {a} of them a day for {m} days.]
  gone = m * a | That is # {things} given away
  v = v - gone | That leaves # {things}
  -> things | LEFT

pack:
  k = divisor(v, 2, 15); holders, holder = thing(PACKS); then = then()
  say [{p.He} <puts/put> [the|all the] {things} into {holders} of {k}.
    |{then}, {p.he} <packs/packed> the {things} in {holders} with {k} in each.|Each {holder} <holds/held> {k} {things}.
    |{k} {things} <fit/fit> in one {holder}.]
  v = v / k | They fill # {holders}
  -> packs | How many {holders} [<does/did> {p} need|can {p} fill|<does/did> {p} fill|are needed]?

share:
  k = divisor(v, 2, 12); group = pick("friends", "children", "classmates", "neighbors", "grandchildren", "cousins")
  one = singular(group); then = then()
  say [{p.He} <shares/shared> [them|the {things}] equally among {k} {group}.
    |{then}, {p.he} <divides/divided> the {things} equally among {p.his} {k} {group}.
    |{k} {group} <split/split> [the {things}|them] evenly.]
  v = v / k | Each of the {k} gets # {things}
  -> share | How many {things}
    [<does/did> each of the {group} get|<does/did> each {one} get|<does/did> each receive]?

use_daily:
  k = divisor(v, 2, 15); span = pick("day", "day", "week")
  say [{p.He} <uses/used> {k} {things} [a|every|each|per] {span}.
    |[Every|Each] {span}, {p.he} <gives/gave> away {k} of the {things}.]
  v = v / k | They last # {span}s
  -> end | [How many {span}s will [the {things}|they] last?|For how many {span}s will {p} have enough {things}?
    |After how many {span}s will {p} run out of {things}?]

how_many_more:
  goal = whole(v) + some(2, 60)
  say [{p.He} <wants/wanted> to have {goal} {things}.|{p.He} <needs/needed> {goal} {things} [in total|in all].
    |{p.His} goal <is/was> to have {goal} {things}.]
  v = goal - v | # {things} are missing
  -> end | How many more {things} <does/did> {p} [need|have to get|need to reach {p.his} goal]?

more_than:
  a = part(v, 0.2, 0.8); q = person(); kin = pick(KIN)
  say [{p.His} friend {q}|{q}|{p.His} {kin} {q}] <has/had> {a} {things}.
  v = v - a | {p} has # more
  -> end | [How many more {things} does {p} have than {q}?|How many {things} more than {q} does {p} have?
    |How many fewer {things} does {q} have than {p}?
    |What is the difference between the numbers of {things} that they have?]

together:
  a = some(3, 80); q = person(); kin = pick(KIN)
  say [{p.His} friend {q}|{q}|{p.His} {kin} {q}] <has/had> {a} {things}.
  v = v + a | Together they have # {things}
  -> end | How many {things} do [they|the two of them|{p} and {q}] have [together|altogether|in total|combined]?

together_compared:
  q = person(); k = pick(2, 2, 3, 4)
  if chance(0.5):
    many = times(k)
    say {q} <has/had> {many} as many {things} as {p}.
    other = v * k | {q} has # {things}
  else:
    d = part(v, 0.1, 0.6); how = pick("more", "fewer")
    say {q} <has/had> {d} {how} {things} than {p}.
    if how == "more":
      other = v + d | {q} has # {things}
    else:
      other = v - d | {q} has # {things}
  v = v + other | Together they have # {things}
  -> end | How many {things} do [they|{p} and {q}] have [together|altogether|in total|in all]?

sell_all:
  price = pick(1, 2, 2, 3, 4, 5, 6, 8, 10, 12) / pick(1, 1, 1, 1, 2)
  need price != 1
  then = then()
  say [{p.He} <sells/sold> [all of them|the {things}|them all|them] for ${price} each.
    |{then}, {p.he} <sells/sold> the {things} at ${price} [per {thing}|apiece|each].
    |{p.He} <earns/earned> ${price} for each {thing} {p.he} <sells/sold>, and {p.he} <sells/sold> all of them.]
  v = v * price | {p} gets # dollars for them
  -> money | How much [money|] [<does/did> {p} make|<does/did> {p} earn|<does/did> {p} get]?

sell_packs:
  price = some(2, 20); then = then()
  say [{p.He} <sells/sold> each {holder} for ${price}.|{then}, {p.he} <sells/sold> the {holders} for ${price} each.
    |{p.He} <gets/got> ${price} per {holder}.]
  v = v * price | {p} gets # dollars for them
  -> money | How much [money|] <does/did> {p} [make|earn|get][| from the sale]?

packs_given:
  a = part(v); then = then()
  say [{then}, {p.he} <gives/gave> {a} {holders} away.|{p.He} <brings/brought> {a} of the {holders} to school.
    |{a} {holders} <get/got> damaged.]
  v = v - a | That leaves # {holders}
  -> packs | How many {holders} [are left|does {p} have left|remain]?

share_after:
  a = some(2, 15)
  say [Each of them already <has/had> {a} {things}.
    |Before that, each of them <has/had> {a} {things} of their own.]
  v = v + a | Each of them has # {things}
  -> end | How many {things} does each of them have now?
