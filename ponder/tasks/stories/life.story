# Ratios, growth, and one who is compared with two others together.

ratios:
  need 2 <= level and level <= 4
  x, y, where = one of boys / girls / the class | red marbles / blue marbles / a jar | cats / dogs / the shelter |
    adults / children / the crowd | roses / tulips / the garden | novels / comics / the bookcase |
    cars / trucks / the parking lot | apple trees / pear trees / the orchard | ducks / geese / the pond |
    nickels / dimes / the jar | cups of flour / cups of sugar / the recipe | wins / losses / the season
  a = some(1, 7); b = some(2, 7); k = some(3, 20)
  need a != b
  A = digits(a); B = digits(b)
  if left == 2 and chance(0.5):
    need a > 1
    n = a * k
    say The ratio of {x} to {y} in {where} is {A}:{B}. There are {n} {x}.
    one = n / a | One part is #
    v = one * b | # {y}
    ask How many {y} are there?
    done if not left
  n = (a + b) * k; of = ""
  if a == 1:
    of = " of the"
  say [In {where}, the ratio of {x} to {y} is {A}:{B}, and there are {n} of them in total.
    |There are {n} {x} and {y} in {where}, in the ratio {A}:{B}.
    |For every {A}{of} {x}, {where} has {B} {y}. Altogether there are {n}.]
  parts = a + b | There are # parts
  one = n / parts | One part is #
  if not left:
    need a == 1
    ask How many {x} are there?
  else if left == 1:
    v = one * b | # {y}
    ask How many {y} are there?
  else:
    need b - a >= 2
    more = b - a | There are # more parts of {y}
    v = one * more | That is # more {y}
    ask How many more {y} than {x} are there?

growth:
  what, verb = one of people live in a town / people | bees live in a hive / bees |
    subscribers follow a channel / subscribers | fish live in a pond / fish | members belong to a club / members |
    rabbits live in a field / rabbits | students attend a school / students | cases arrive at a clinic / cases |
    orders come to a shop in January / orders | dollars are in an account / dollars |
    bacteria are in a dish / bacteria | ants live in a nest / ants
  v = some(2, 60) * pick(10, 10, 20, 50, 100)
  say {v} {what}.
  # the draw for i decides nothing: without it, later draws would be others
  span = pick("year", "month", "week", "day"); i = some(0, 0)
  turns percent up, percent down, double, more, less, half:
    if i > 0 or chance(0.7):
      nth = ORDINALS[i]; when = "[In|During] the {nth} {span}"
    else:
      when = "In the next {span}"
    only if left >= 2 or turn not in ("percent up", "percent down")
    i = i + 1
    percent up:
      x = pick(10, 20, 25, 30, 40, 50)
      need whole(v * x / 100)
      say {when}, the number [increases|grows|rises] by {x}%.
      part = v * (x / 100) | {x}% of it is # {verb}
      v = v + part | Then it is # {verb}
    percent down:
      x = pick(10, 20, 25, 30, 40, 50)
      need whole(v * x / 100)
      say {when}, the number [decreases|falls|drops] by {x}%.
      part = v * (x / 100) | {x}% of it is # {verb}
      v = v - part | Then it is # {verb}
    double:
      k, doubles = one of 2 / doubles | 2 / doubles | 3 / triples
      say {when}, the number {doubles}.
      v = v * k | Then it is # {verb}
    half:
      need whole(v / 2)
      say {when}, half of the {verb} [disappear|are lost|leave].
      v = v / 2 | Then it is # {verb}
    more:
      a = some(5, 200)
      say {when}, [{a} new {verb} are added|there are {a} more {verb}].
      v = v + a | Then it is # {verb}
    less:
      a = part(v, 0.05, 0.5)
      say {when}, [{a} {verb} are lost|the number falls by {a}].
      v = v - a | Then it is # {verb}
  ask How many {verb} are there [then|after that|in the end|at the end of that {span}]?

combined:
  need level >= 2
  p = person(); q = person(); r = person()
  things, thing = thing(COLLECTED, PICKED, CRAFTED); a = some(3, 40); b = some(3, 40)
  got, get = one of <has/had> / have | <collects/collected> / collect | <finds/found> / find | <makes/made> / make |
    <picks/picked> / pick | <sells/sold> / sell
  if left >= 3 and chance(0.6):
    k = pick(2, 2, 3); many = times(k)
    say {p} {got} {a} {things}. {q} {got} {many} as many.
    b = a * k | {q}: # {things}
  else:
    say [{p} {got} {a} {things} and {q} {got} {b}.|{p} {got} {a} {things}. {q} {got} {b} {things}.]
  both = a + b | {p} and {q} together: # {things}
  how = pick("times", "more", "fewer", "half")
  if how == "half":
    need whole(both / 2)
  d = part(both, 0.1, 0.5)
  if how == "times":
    say {r} {got} twice as many as {p} and {q} [combined|together].
    v = both * 2 | {r}: # {things}
  else if how == "half":
    say {r} {got} half as many as {p} and {q} [combined|together].
    v = both / 2 | {r}: # {things}
  else:
    say {r} {got} {d} {how} than {p} and {q} [combined|together].
    if how == "more":
      v = both + d | {r}: # {things}
    else:
      v = both - d | {r}: # {things}
  ask How many {things} <does/did> {r} {get}?
  done if not left
  if left == 1:
    v = both + v | All together: # {things}
    ask How many {things} <do/did> [the three of them|they|all three] {get} [in total|altogether|together|in all]?
  else:
    need get in ("have", "find", "pick", "collect")
    p = r; thing = singular(things)
    -> things | How many {things} does {p} have?
