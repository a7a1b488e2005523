# Rates and amounts: proportions, areas, tanks, animals, machines.

moves products: goal! faulty paid
moves wages: halves!

proportion:
  p = person(); k = some(2, 8); n = some(2, 9); m = some(2, 12)
  text, question, unit, again = one of
    A recipe for {k} people <calls/called> for {t}
      [cups of flour|eggs|spoons of sugar|potatoes|ounces of cheese]. / How many does {p} need for {m} people /
      for each person / over |
    {k} [notebooks|pencils|apples|stamps|tickets|muffins] <cost/cost> {t} dollars. /
      How many dollars <does/did> {p} pay for {m} of them / dollars for each / daily |
    {p} <can/could> [type|read|print|fold] {t} pages in {k} minutes. / How many pages can {p} do in {m} minutes /
      pages a minute / daily |
    A machine <makes/made> {t} [bottles|toys|screws|bags|parts] in {k} hours. /
      How many [does the machine|will it] make in {m} hours / an hour / daily |
    {p} <walks/walked> {t} blocks in {k} minutes. /
      How many blocks <does/did> {p} walk in {m} minutes at the same speed / blocks a minute / daily |
    {k} [hens|chickens] <lay/laid> {t} eggs a week. / How many eggs <do/did> {m} of them lay in a week / eggs each /
      over |
    A pump <fills/filled> {t} gallons in {k} minutes. / How many gallons <does/did> it fill in {m} minutes /
      gallons a minute / daily |
    It <takes/took> {p} {t} minutes to wash {k} cars. / How many minutes <does/did> {p} need for {m} cars /
      minutes for a car / daily
  need m != k
  t = k * n
  say {text}
  each = t / k | That is # {unit}
  v = each * m | For {m} that is #
  if left == 1:
    d = some(2, 6)
    v = v * d | {d} times that is #
    if again == "daily":
      ask {question} a day for {d} days?
    else:
      ask {question}, {d} times over?
  else:
    need not left
    ask {question}?

area:
  p = person(); a = some(4, 40); b = some(3, 30)
  what, unit = one of garden / feet | room / feet | field / yards | wall / feet | playground / meters | patio / feet |
    pool / meters | yard / meters
  one = singular(unit)
  say {p} <has/had> a rectangular {what} that <is/was> {a} {unit} long and {b} {unit} wide.
  if chance(0.35) and left >= 2:
    side = a + b | Two sides are # {unit}
    v = side * 2 | All sides are # {unit}
    -> end | How many {unit} of fence <does/did> {p} need to go all around it?
    done if not left
    x = some(2, 15)
    say [Fence <costs/cost> ${x} per {one}.
      |{p.He} <wants/wanted> to put a fence around it that <costs/cost> ${x} per {one}.]
    v = v * x | The fence costs # dollars
    -> cost | How much does a fence all around it cost?
  else:
    v = a * b | The area is # square {unit}
    -> end | [What is the area of the {what} in square {unit}?|How many square {unit} <is/was> the {what}?]
    if left and chance(0.5):
      c = part(v, 0.1, 0.6)
      say {c} square {unit} of it <are/were>
        [covered with grass|already finished|taken up by a path|used for something else].
      v = v - c | That leaves # square {unit}
      -> end | How many square {unit} are left?
    done if not left
    x = some(2, 9)
    if told > 1:
      say {p.He} <covers/covered> the rest with material at ${x} per square {one}.
    else:
      say [{p.He} <covers/covered> it with tiles that <cost/cost> ${x} per square {one}.
        |{p.He} <pays/paid> a worker ${x} for every square {one}.]
    v = v * x | That costs # dollars
    -> cost | How much does {p} pay?

tank:
  what, unit, into, out_of = one of tank / gallons of water / flow into / leak out of |
    barn / bales of hay / are brought to / are taken from | silo / tons of grain / are added to / are taken from |
    pool / liters of water / run into / drain from | warehouse / boxes / arrive at / leave |
    barrel / liters of oil / are poured into / are drawn from
  v = some(10, 90) * pick(1, 5, 10)
  say [A {what} holds {v} {unit}.|There are {v} {unit} in a {what}.|A {what} has {v} {unit} in it.]
  ask How many {unit} are [in the {what} now|there in the end|in it then|in the {what} in the end]?
  turns in, out, plain in, plain out, time:
    k = some(2, 25); h = some(2, 12); span = pick("hour", "day", "minute")
    in:
      only if left >= 2
      say [Every|Each] {span}, {k} {unit} {into} it, for {h} {span}s.
      more = k * h | That is # {unit} more
      v = v + more | Then there are # {unit}
    out:
      only if left >= 2 and k * h < v - 1
      say [Every|Each] {span}, {k} {unit} {out_of} it, for {h} {span}s.
      less = k * h | That is # {unit} less
      v = v - less | That leaves # {unit}
    plain in:
      a = some(5, 90); then = then()
      say {then}, {a} {unit} {into} it.
      v = v + a | Then there are # {unit}
    plain out:
      a = part(v, 0.1, 0.6); then = then()
      say {then}, {a} {unit} {out_of} it.
      v = v - a | That leaves # {unit}
    time:
      only if left == 1
      k = divisor(v, 2, 20)
      say From then on, {k} {unit} {out_of} it every {span}.
      v = v / k | That takes # {span}s
      ask [How many {span}s does it take until [the {what}|it] is empty?|After how many {span}s is the {what} empty?]

animals:
  p = person()
  if chance(0.5):
    things, thing = noun(pick(ANIMALS))
  else:
    things, thing = noun(pick(PETS))
  n = some(2, 24); a = some(2, 9)
  unit = pick("pounds of food", "cups of food", "carrots", "treats", "scoops of food", "handfuls of grain")
  say [{p} <has/had> {n} {things}. Each {thing} <eats/ate> {a} {unit} a day.
    |{p} <feeds/fed> each of {p.his} {n} {things} {a} {unit} [a|every] day.
    |Each of {p}'s {n} {things} <needs/needed> {a} {unit} per day.]
  v = n * a | In a day that is # {unit}
  ask How many {unit} <does/did> {p} need [a|every|each] day?
  done if not left
  d = pick(7, 7, 14, 30, some(3, 12)); span = "{d} days"
  if d == 7:
    span = "a week"
  else if d == 14:
    span = "two weeks"
  if left > 1:
    say {p.He} <buys/bought> food for {span}.
  v = v * d | In {d} days that is # {unit}
  ask How many {unit} <does/did> {p} need for {span}?
  done if not left
  k = divisor(v, 5, 50)
  say A bag <holds/held> {k} {unit}.
  v = v / k | That is # bags
  ask How many bags <does/did> {p} need?
  done if not left
  x = some(4, 40)
  say [Each bag <costs/cost> ${x}.|{p.He} <pays/paid> ${x} [per|for each] bag.]
  v = v * x | They cost # dollars
  -> cost | How much <does/did> {p} pay?

machines:
  need level >= 2
  x = person(); y = person()
  what, make = one of toys / make | cars / wash | pages / type | shirts / sew | boxes / pack | trees / plant |
    letters / sort | windows / clean | dumplings / fold | apples / pick
  a = some(3, 30); b = some(3, 30); h = some(2, 9)
  say [{x} can {make} {a} {what} [an|per] hour, and {y} can {make} {b} {what} [an|per] hour.
    |Each hour, {x} can {make} {a} {what} while {y} can {make} {b}.]
  if chance(0.3):
    need a != b
    if a < b:
      a, b, x, y = b, a, y, x
    rate = a - b | In an hour {x} does # more
    v = rate * h | In {h} hours {x} does # more
    need not left
    ask [How many more {what} than {y} can {x} {make} in {h} hours?
      |In {h} hours, how many more {what} can {x} {make} than {y}?]
  done if not left
  rate = a + b | In an hour they do # {what}
  if left == 1 and chance(0.4):
    n = rate * h
    v = n / rate | They need # hours
    ask How many hours do they need to {make} {n} {what}?
  done if not left
  v = rate * h | In {h} hours they do # {what}
  ask [How many {what} can they {make} together in {h} hours?
    |Working together, how many {what} can they {make} in {h} hours?]
  done if not left
  say They work together for {h} hours.
  -> products | How many {what} is that?

goal:
  n = whole(v) + some(5, 90)
  say They need {n} {what} in total.
  v = n - v | # are missing
  -> end | How many {what} are still missing?

faulty:
  a = part(v, 0.05, 0.4)
  say [{a} of the {what} have to be done again.|{a} of the {what} turn out badly and do not count.]
  v = v - a | That leaves #
  -> products | How many {what} are done well?

paid:
  x = some(2, 9)
  say They get ${x} for each of them.
  v = v * x | They get # dollars
  -> wages | How much money do they get?

halves:
  need whole(v / 2)
  say They share the money equally.
  v = v / 2 | Each gets # dollars
  -> end | How much does each of the two get?
