# Slices, loads, lengths, calories, buildings: amounts of what is at home and around it.

WEIGHT = [How many {unit} is that in total?|What is the total weight in {unit}?
  |How much do they weigh altogether, in {unit}?]

slices:
  p = person(); n = some(2, 12); k = pick(6, 8, 8, 10, 12, 4)
  food, piece = one of pizzas / slices | cakes / slices | pies / pieces | loaves of bread / slices |
    watermelons / slices | chocolate bars / squares | sandwiches / quarters | large cookies / pieces |
    pans of brownies / squares
  party = pick("a party", "dinner", "the team", "a family reunion", "movie night", "the office", "a picnic")
  say [For {party}, {p} <orders/ordered> {n} {food}, each cut into {k} {piece}.
    |{p} <buys/bought> {n} {food} for {party}. Each of them <is/was> cut into {k} {piece}.
    |{p} <makes/made> {n} {food} for {p.his} family and <cuts/cut> each one into {k} {piece}.
    |{p}'s mom <brings/brought> {n} {food} with {k} {piece} each to {party}.]
  v = n * k | There are # {piece}
  ask How many {piece} are there [in total|altogether|in all]?
  turns each, some, fraction, share:
    ask How many {piece} [are left|remain|are left over|were not eaten]?
    each:
      only if left >= 2
      m = some(2, 9); a = some(2, 4)
      need m * a < v - 1
      say [{m} [guests|friends|children|adults] each <eat/ate> {a} {piece}.
        |Each of the {m} [people|kids|players] there <eats/ate> {a} {piece}.
        |{m} family members <have/had> {a} {piece} each.]
      eaten = m * a | They eat # {piece}
      v = v - eaten | That leaves # {piece}
    some:
      a = part(v, 0.1, 0.5); q = person(); then = then()
      say [{q} <eats/ate> {a} {piece}.|{a} of the {piece} <fall/fell> on the floor.
        |{then}, {q} <takes/took> {a} {piece} home.|The dog <gets/got> {a} of the {piece}.]
      v = v - a | That leaves # {piece}
    fraction:
      only if left >= 2
      k = divisor(v, 2, 6); f = fraction(k)
      say [{f} of the {piece} <are/were> eaten [before noon|right away|by the children].
        |They <finish/finished> {f} of the {piece}.]
      eaten = v / k | 1/{k} of them is # {piece}
      v = v - eaten | That leaves # {piece}
    share:
      only if left == 1
      k = divisor(v, 2, 12)
      if told > 1:
        say [The rest <is/was> shared equally by {k} people.
          |{k} people <share/shared> [the rest|what is left] equally.]
      else:
        say {k} people <share/shared> them equally.
      v = v / k | Each gets # {piece}
      ask How many {piece} <does/did> each person get?

loads:
  unit = pick("pounds", "kilograms", "pounds", "ounces", "grams")
  things, one, low, high = one of boxes of books / box / 10 / 40 | sacks of potatoes / sack / 10 / 50 |
    bricks / brick / 3 / 8 | suitcases / suitcase / 15 / 50 | bags of cement / bag / 40 / 90 |
    barrels / barrel / 50 / 120 | crates of oranges / crate / 12 / 40 | bars of iron / bar / 10 / 60 |
    bundles of newspapers / bundle / 5 / 25 | dumbbells / dumbbell / 5 / 30 | jars of beans / jar / 2 / 9 |
    rocks / rock / 4 / 40
  where = pick("truck", "van", "boat", "elevator", "cart", "trailer", "wagon"); n = some(2, 20); w = some(low, high)
  say [A {where} <carries/carried> {n} {things} that <weigh/weighed> {w} {unit} each.
    |There <are/were> {n} {things} on a {where}. Each {one} <weighs/weighed> {w} {unit}.
    |{n} {things} <are/were> loaded onto a {where}, and each <has/had> a weight of {w} {unit}.]
  v = n * w | The {things} weigh # {unit}
  ask WEIGHT
  turns more, one, off, limit, fit, trips:
    more:
      only if left >= 2
      m = some(2, 12); x = some(3, 60)
      what = pick("bags", "cases", "parcels", "baskets", "machines", "chairs", "wooden boards")
      say [It also <carries/carried> {m} {what} of {x} {unit} each.
        |{m} {what}, each weighing {x} {unit}, <are/were> added.]
      more = m * x | The {what} weigh # {unit}
      v = v + more | Together that is # {unit}
      ask WEIGHT
    one:
      x = some(10, 200); then = then()
      say [The driver <weighs/weighed> another {x} {unit}.
        |The {where} itself <weighs/weighed> {x} {unit}, which <counts/counted> too.
        |{then}, something else of {x} {unit} <is/was> put on it.]
      v = v + x | Together that is # {unit}
      ask WEIGHT
    off:
      x = part(v, 0.1, 0.5); then = then()
      say [{then}, {x} {unit} of it <are/were> taken off.|At the first stop, {x} {unit} <are/were> unloaded.]
      v = v - x | That leaves # {unit}
      ask How many {unit} are left on the {where}?
    limit:
      only if left == 1
      m = whole(v) + some(5, 200)
      say [The {where} <can/could> carry at most {m} {unit}.
        |The maximum [load|capacity] of the {where} <is/was> {m} {unit}.]
      v = m - v | # {unit} are left
      ask How many more {unit} can the {where} carry?
    trips:
      only if left == 1
      k = divisor(v, 2, 40); load = v / k
      say The {where} <can/could> carry only {load} {unit} at a time.
      v = v / load | That takes # trips
      ask How many trips are needed?
    # drawn, but never told
    fit:
      only if left == 0

lengths:
  p = person()
  what, unit, small, factor, of = one of rope / feet / inches / 12 / rope | ribbon / yards / feet / 3 / ribbon |
    board / feet / inches / 12 / board | wire / meters / centimeters / 100 / wire |
    roll of fabric / yards / inches / 36 / fabric | string / meters / centimeters / 100 / string |
    hose / yards / feet / 3 / hose | chain / feet / inches / 12 / chain
  v = some(3, 40); now = unit
  say [{p} <has/had> a {what} that <is/was> {v} {unit} long.|A {what} in {p}'s garage <is/was> {v} {unit} long.
    |{p} <buys/bought> {v} {unit} of {of}.]
  ask How many {now} long is it now?
  turns convert, cut, join, pieces, gifts:
    convert:
      only if now == unit and left >= 2
      v = v * factor | That is # {small}
      now = small; a = part(v, 0.05, 0.5)
      say [{p.He} <cuts/cut> off {a} {now}.
        |{a} {now} of it <are/were> [worn out|used for a project|damaged] and <have/had> to go.]
      v = v - a | That leaves # {now}
      ask How many {now} are left?
    cut:
      a = part(v, 0.1, 0.5); then = then()
      say [{then}, {p.he} <cuts/cut> off {a} {now}.
        |{p.He} <uses/used> {a} {now} [to hang a picture|to tie a box|for the kitchen|to mend a fence].]
      v = v - a | That leaves # {now}
      ask How many {now} are left?
    join:
      only if now == unit
      a = some(2, 30); then = then()
      say [{p.He} <ties/tied> another piece of {a} {now} to it.|{then}, {p.he} <buys/bought> {a} more {now}.]
      v = v + a | Then there are # {now}
      ask How many {now} does {p} have [now|in total]?
    gifts:
      only if left >= 2
      m = some(2, 8); a = some(2, 9)
      need m * a < v - 1
      say [{p.He} <needs/needed> {m} pieces of {a} {now} each for {p.his} [gifts|shelves|plants|curtains].
        |{p.He} <cuts/cut> {m} pieces of {a} {now} from it.]
      pieces = m * a | The pieces take # {now}
      v = v - pieces | That leaves # {now}
      ask How many {now} are left?
    pieces:
      only if left == 1
      k = divisor(v, 2, 15); one = singular(now)
      say [{p.He} <cuts/cut> it into pieces of {k} {now} each.|{p.He} <cuts/cut> it into {k}-{one} pieces.]
      v = v / k | That makes # pieces
      ask How many pieces does {p} get?

calories:
  p = person()
  unit, foods, low, high, cap = one of calories / FOODS / 20 / 250 / limit |
    grams of sugar / SWEETS / 4 / 40 / limit | ounces / DRINKS / 6 / 20 / goal |
    grams of protein / PROTEINS / 6 / 30 / goal
  n = some(2, 6); a = some(low, high); first, second = sample(foods, 2)
  say [{p} <has/had> {n} {first} for [breakfast|lunch|dinner]. Each <has/had> {a} {unit}.
    |One of the {first} that {p} <likes/liked> <has/had> {a} {unit}. {p.He} <has/had> {n} of them.
    |There <are/were> {a} {unit} in each of the {n} {first} that {p} <has/had> today.]
  v = n * a | That is # {unit}
  ask How many {unit} is that [in total|altogether]?
  turns once more, single, burn, cap, days:
    more:
      only if left >= 2
      m = some(2, 6); b = some(low, high); then = then()
      say [{p.He} also <has/had> {m} {second} with {b} {unit} each.
        |{then}, {p.he} <has/had> {m} {second}, each with {b} {unit}.]
      more = m * b | The {second} have # {unit}
      v = v + more | Together that is # {unit}
    single:
      b = some(low, high)
      say [A snack later <adds/added> {b} {unit}.|{p.He} <gets/got> another {b} {unit} from a drink.]
      v = v + b | Together that is # {unit}
    burn:
      only if unit == "calories"
      b = part(v, 0.1, 0.6)
      say [{p.He} <burns/burned> {b} calories [while jogging|at the gym|on {p.his} bike|by swimming].
        |A long walk <burns/burned> {b} calories.]
      v = v - b | That leaves # {unit}
      ask How many calories are left after that?
    cap:
      only if left == 1
      b = whole(v) + some(10, 300)
      say [{p.His} daily {cap} <is/was> {b} {unit}.|{p.He} <wants/wanted> to have {b} {unit} a day.]
      v = b - v | # {unit} are left
      ask How many more {unit} can {p} have [that day|today]?
    days:
      only if left == 1
      d = some(2, 14)
      say {p.He} <does/did> the same every day for {d} days.
      v = v * d | In {d} days that is # {unit}
      ask How many {unit} is that [in total|over the {d} days]?

buildings:
  house, big, one, on, mid, two, in, small, verb = one of
    apartment building / floors / floor / on / apartments / apartment / in / people / live |
    hotel / floors / floor / on / rooms / room / in / beds / stand |
    library / shelves / shelf / on / rows / row / in / books / stand |
    school / classrooms / classroom / in / tables / table / in / students / sit |
    parking garage / levels / level / on / rows / row / in / cars / are parked |
    orchard / fields / field / in / rows / row / in / trees / grow |
    store / aisles / aisle / on / shelves / shelf / on / cans / stand |
    stadium / sections / section / in / rows / row / in / seats / stand |
    office / floors / floor / on / rooms / room / in / computers / stand |
    warehouse / halls / hall / in / racks / rack / in / boxes / are stored |
    farm / barns / barn / in / stalls / stall / in / cows / live |
    museum / wings / wing / in / rooms / room / in / paintings / hang |
    photo album / chapters / chapter / in / pages / page / on / photos / are kept |
    zoo / houses / house / in / cages / cage / in / birds / live
  a = some(2, 12); b = some(2, 15)
  say [A {house} has {a} {big} with {b} {mid} {on} each [{one}|of them].
    |A {house} has {a} {big}, and each {one} has {b} {mid}.
    |There are {a} {big} in a {house}. Each {one} has {b} {mid}.]
  v = a * b | There are # {mid}
  ask How many {mid} [are there in the {house}|does the {house} have][| in total]?
  done if not left
  some_are_empty = left >= 2 and chance(0.3)
  if some_are_empty:
    c = part(v, 0.05, 0.4)
    say [{c} of the {mid} are empty.|{c} of the {mid} are closed for repairs and empty.]
    v = v - c | # {mid} are in use
  c = some(2, 12)
  if some_are_empty:
    say {in} each of the other {mid}, {c} {small} {verb}.
  else:
    say [{in} each {two}, {c} {small} {verb}.|There are {c} {small} {in} each {two}.]
  v = v * c | There are # {small}
  ask How many {small} are there [in the {house}|in total|altogether]?
  turns gone, part, more, each:
    gone:
      c = part(v, 0.05, 0.5)
      say {c} of the {small} are [away|gone|taken out] [this week|today|at the moment].
      v = v - c | That leaves # {small}
      ask How many {small} [are left|remain]?
    part:
      k = divisor(v, 2, 6); like = pick("new", "old", "marked with a red dot", "on a special list"); f = fraction(k)
      say {f} of the {small} are {like}.
      part = v / k | 1/{k} of them is # {small}
      ask How many {small} are {like}?
      done if not left
      v = v - part | That leaves # {small}
      need not left
      ask How many of the {small} are not {like}?
    more:
      c = some(5, 80)
      say [{c} {small} are added.]
      v = v + c | Then there are # {small}
      ask How many {small} are there then?
    each:
      only if left == 1
      x = some(2, 15)
      if small == "people":
        say Each of them pays ${x} for a new playground.
        v = v * x | That is # dollars
        ask How many dollars is that [in total|altogether]?
      else:
        say Every year, it costs ${x} to insure each of the {small}.
        v = v * x | That is # dollars
        ask How much does it cost to insure all of them for a year?
