# Sums that are told as a whole: how they divide, of the rest, and what is left of two prices.

sum_and_ratio:
  p = person(); q = person(); things, _ = thing(COLLECTED, PICKED); k = pick(2, 2, 3, 3, 4, 5)
  total = some(4, 40) * (k + 1); many = times(k)
  say [{p} and {q} have {total} {things} [together|altogether|in total]. {p} has {many} as many as {q}.
    |Together, {p} and {q} have {total} {things}, and {p} has {many} as many as {q}.]
  need left > 1
  parts = k + 1 | There are # equal parts
  one = total / parts | {q} has # {things}
  ask How many {things} does {q} have?
  done if not left
  more = one * k | {p} has # {things}
  ask How many {things} does {p} have?
  done if not left
  v = more - one | The difference is # {things}
  need not left
  ask How many more {things} does {p} have than {q}?

sum_and_difference:
  need 2 <= level and level <= 3
  p = person(); q = person(); things, _ = thing(COLLECTED, PICKED)
  what = pick(things, "dollars", "points", "pages", "stamps"); d = some(2, 30); total = 2 * some(4, 50) + d
  say [{p} and {q} have {total} {what} [together|in total]. {p} has {d} more than {q}.
    |{p} has {d} more {what} than {q}. Together they have {total} {what}.]
  rest = total - d | Without the {d} more, # {what} are left
  one = rest / 2 | {q} has # {what}
  ask How many {what} does {q} have?
  done if not left
  v = one + d | {p} has # {what}
  ask How many {what} does {p} have?

of_the_rest:
  need level >= 2
  stock, kinds = one of COLLECTED / COLOURS | COLLECTED / COLOURS | BAKED / FLAVOURS
  p = person(); things, _ = thing(stock); colours = sample(kinds, 5); v = some(2, 30) * pick(4, 6, 10, 12, 20)
  say [{p} has {v} {things}.|There are {v} {things} in {p}'s shop.|{p} bought {v} {things}.|A box holds {v} {things}.]
  used = 0; of = "of the {things}"
  while left > 1:
    need used < 4
    colour = colours[used]
    if left == 2 and chance(0.4):
      k = divisor(v, 2, 5); f = fraction(k)
      say {f} {of} are {colour}.
      part = v / k | # are {colour}
      k = divisor(part, 2, 5); f = fraction(k)
      say {f} of the {colour} ones [are broken|have a flaw|are sold|have been given away].
      v = part / k | Of these that is #
      ask How many {colour} {things} is that?
      done if not left
    if chance(0.5):
      k = divisor(v, 2, 5); f = fraction(k)
      say {f} {of} are {colour}.
      part = v / k | # are {colour}
      v = v - part | # are left
    else if chance(0.7):
      x = pick(10, 20, 25, 30, 40, 50, 60)
      need whole(v * x / 100)
      say {x}% {of} are {colour}.
      part = v * (x / 100) | # are {colour}
      v = v - part | # are left
    else:
      a = part(v, 0.1, 0.5)
      say {a} {of} are {colour}.
      v = v - a | # are not {colour}
    used = used + 1; of = "of the [rest|remaining ones|others]"
  colour = colours[used]; last = colour
  if left == 1:
    a = part(v, 0.1, 0.6); last = "plain"
    if used < 4:
      last = colours[4]
    say {a} of the others are {colour}, and the rest are {last}.
    v = v - a | # are {last}
  else:
    say The [rest|others] are {last}.
  ask How many {things} are {last}?

profit:
  need 2 <= level and level <= 4
  p = person(); things, thing, a = goods(); n = some(4, 40); b = a + some(2, 15)
  say [{p} <buys/bought> {n} {things} at ${a} each and <sells/sold> them for ${b} each.
    |{p} <pays/paid> ${a} for each {thing} and <sells/sold> it for ${b}. {p.He} <sells/sold> {n} {things}.
    |It <costs/cost> {p} ${a} to make a {thing}, and {p.he} <sells/sold> each for ${b}.
      [Last month|This week], {p.he} sold {n}.]
  if level == 2:
    each = b - a | The profit on each is # dollars
    v = each * n | The whole profit is # dollars
    ask [How much profit <does/did> {p} make?|What <is/was> {p}'s profit?|How much <does/did> {p} earn from this?]
    done if level == 2
  cost = n * a | {p} pays # dollars
  income = n * b | {p} gets # dollars
  v = income - cost | The profit is # dollars
  if left:
    a = part(v, 0.1, 0.7)
    say {p.He} also <pays/paid> ${a} for [the stand|an advertisement|transport|a permit].
    v = v - a | Then the profit is # dollars
  ask [How much profit <does/did> {p} make?|What <is/was> {p}'s [total |]profit?]

two_offers:
  need level == 3
  p = person(); things, thing, a = goods(); n = some(3, 20); b = a + some(1, 6); x, y = sample(OFFERERS, 2)
  say {p} needs {n} {things}. At {x}, a {thing} costs ${a}, and at {y} it costs ${b}.
  more = n * b | At {y} they cost # dollars
  less = n * a | At {x} they cost # dollars
  v = more - less | The difference is # dollars
  ask [How much does {p} save by buying at {x}?|How much more would {p} pay at {y}?|How much money can {p} save?]
