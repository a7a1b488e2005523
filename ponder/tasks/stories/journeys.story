# Something to get through: pages, miles, rows; and legs of a journey at given speeds.

progress:
  p = person()
  unit, whole, do, done = one of pages / book / read / <reads/read> | miles / hike / walk / <walks/walked> |
    questions / test / answer / <answers/answered> | miles / road trip / drive / <drives/drove> |
    words / essay / write / <writes/wrote> | pieces / puzzle / place / <places/placed> |
    problems / math workbook / solve / <solves/solved> | kilometers / bike tour / ride / <rides/rode> |
    feet / fence / paint / <paints/painted> | names / guest list / write down / <writes/wrote> down |
    verses / long poem / memorize / <memorizes/memorized> | chairs / set of chairs / paint / <paints/painted> |
    rows / scarf / knit / <knits/knitted>
  if left >= 2 and chance(0.3):
    a = some(4, 20); b = some(5, 30); part = pick("part", "section", "stage")
    say [{p} <has/had> a {whole} with {a} {part}s of {b} {unit} each.
      |A {whole} <has/had> {a} {part}s, and each {part} <has/had> {b} {unit}. {p} <wants/wanted> to {do} all of it.]
    v = a * b | The {whole} has # {unit}
  else:
    if unit in ("miles", "chairs", "kilometers"):
      v = some(20, 120)
    else:
      v = some(6, 50) * 10
    say [{p} <has/had> to {do} {v} {unit} for a {whole}.
      |A {whole} <has/had> {v} {unit}. {p} <wants/wanted> to {do} [all of them|them all].
      |{p} <is/was> busy with a {whole} of {v} {unit}.]
  last = ""; rest = "them"; of_rest = "the {unit}"
  turns told, part, percent, rate, half while left > 1 or left == 1 and chance(0.6):
    only if turn != last and (left >= 2 or turn in ("told", "half"))
    if last != "":
      rest = "[the rest|what <is/was> left]"; of_rest = "the remaining {unit}"
    last = turn
    told:
      a = part(v, 0.1, 0.5); then = then(); day = pick(WEEKDAYS)
      say [{then}, {p.he} {done} {a} {unit}.|{p.He} {done} {a} of [them|the {unit}] on {day}.
        |{p.He} already {done} {a} {unit}.]
      v = v - a | That leaves # {unit}
    half:
      need whole(v / 2)
      then = then(); day = pick(WEEKDAYS)
      say [{then}, {p.he} {done} half of {of_rest}.|{p.He} {done} half of {rest}[| on {day}].]
      v = v / 2 | Half of that is left, # {unit}
    part:
      k = divisor(v, 3, 6); f = fraction(k); then = then()
      say [{then}, {p.he} {done} {f} of {of_rest}.|{p.He} {done} {f} of {rest}.]
      finished = v / k | 1/{k} of it is # {unit}
      v = v - finished | That leaves # {unit}
    percent:
      x = pick(10, 20, 25, 30, 40, 60)
      need whole(v * x / 100)
      then = then()
      say [{then}, {p.he} {done} {x}% of {of_rest}.|{p.He} {done} {x}% of {rest}.]
      finished = v * (x / 100) | {x}% of it is # {unit}
      v = v - finished | That leaves # {unit}
    rate:
      d = some(2, 6); r = part(v / d, 0.1, 0.7)
      say [For {d} days, {p.he} {done} {r} {unit} [a|per|each] day.|{p.He} {done} {r} {unit} every day for {d} days.]
      finished = d * r | In {d} days that is # {unit}
      v = v - finished | That leaves # {unit}
  ask [How many {unit} are left?|How many {unit} <does/did> {p} still have to {do}?
    |How many {unit} <are/were> there still to {do}?]
  done if not left
  k = divisor(v, 2, 20); span = pick("day", "hour", "day")
  if chance(0.5):
    say [{p.He} <can/could> {do} {k} {unit} [a|per|each] {span}.
      |[From then on|After that], {p.he} {done} {k} {unit} [a|per|every] {span}.]
    v = v / k | That takes # {span}s
    ask [How many [more |]{span}s <does/did> {p} need to finish?|How many {span}s will it take {p} to finish?
      |In how many {span}s will {p} be done?]
  else:
    say {p.He} <wants/wanted> to finish [the rest|all that is left] in {k} {span}s.
    v = v / k | That is # {unit} per {span}
    ask How many {unit} [must {p} {do}|should {p} {do}|does {p} have to {do}] [each|per|every] {span}?

travel:
  p = person()
  goes, low, high = one of <drives/drove> / 30 / 75 | <bikes/biked> / 8 / 20 | <walks/walked> / 2 / 5 |
    <runs/ran> / 5 / 9 | <rides/rode> / 8 / 20 | <sails/sailed> / 6 / 18
  speed = some(low, high); h = some(2, 7)
  say [{p} {goes} for {h} hours at [a speed of |]{speed} miles per hour.
    |{p} {goes} at {speed} miles an hour for {h} hours.]
  v = speed * h | {p} covers # miles
  ask How many miles <does/did> {p} travel[| in total| altogether]?
  turns leg, leg, more, rest, fuel, back, days:
    leg:
      only if left >= 2
      speed = some(low, high); h = some(2, 6); then = then()
      say [{then}, {p.he} {goes} {h} hours at {speed} miles per hour.
        |{p.He} then {goes} another {h} hours at {speed} miles per hour.]
      more = speed * h | That is # miles more
      v = v + more | Together that is # miles
    more:
      a = some(3, 60); then = then()
      say [{then}, {p.he} <travels/traveled> {a} miles more[| by bus| by train].
        |The last part of the way <is/was> {a} miles long.]
      v = v + a | Together that is # miles
    rest:
      only if left == 1
      d = whole(v) + some(10, 200)
      say [The whole trip <is/was> {d} miles long.|{p.His} goal <is/was> {d} miles away from the start.]
      v = d - v | # miles are left
      ask How many miles are left?
    fuel:
      only if left <= 2 and goes == "<drives/drove>"
      k = divisor(v, 10, 40)
      say {p.His} car <goes/went> {k} miles [on|per] [one gallon|a gallon] of gas.
      v = v / k | {p} uses # gallons
      ask How many gallons of gas <does/did> {p} use?
      done if not left
      x = some(2, 6)
      say [Gas <costs/cost> ${x} a gallon.|A gallon <costs/cost> ${x}.]
      v = v * x | The gas costs # dollars
      ask How much <does/did> {p} spend on gas?
    back:
      say [{p.He} <takes/took> the same way back.|{p.He} then <returns/returned> by the same route.]
      v = v * 2 | There and back that is # miles
      not again
    days:
      d = some(2, 6)
      say [{p.He} <does/did> the same on each of {d} days.|{p.He} <repeats/repeated> this every day for {d} days.]
      v = v * d | In {d} days that is # miles
      need not left
