# Wages that rise, subscriptions, installments, habits, rates by the minute.

subscriptions:
  p = person(); x = some(6, 80)
  what = pick("a gym membership", "a streaming service", "a phone plan", "an internet plan", "a parking spot",
    "a storage unit", "a magazine", "a karate class", "a dance class", "a language course", "car insurance")
  d = pick(12, 6, 3, some(2, 11)); span = "{d} months"
  if chance(0.5):
    if d == 12:
      span = "a year"
    else if d == 6:
      span = "half a year"
  say [{p} <pays/paid> ${x} [a|per|every] month for {what} [for {span}|over {span}].
    |{what} <costs/cost> {p} ${x} a month. {p.He} <keeps/kept> it for {span}.
    |{p} <signs/signed> up for {what} at ${x} per month for {span}.]
  v = x * d | In {d} months that is # dollars
  if left and chance(0.5):
    f = some(10, 100)
    say [There <is/was> also a sign-up fee of ${f}.|{p.He} also <pays/paid> ${f} for equipment.
      |A one-time fee of ${f} <is/was> added.]
    v = v + f | With the fee that is # dollars
  else if left and chance(0.5):
    f = some(20, 150)
    say [The next year, the price <goes/went> up, and the same <costs/cost> ${f} more.
      |{p.He} also <pays/paid> ${f} for extras.]
    v = v + f | With that it is # dollars
  -> cost | How much <does/did> {p} pay [in total|altogether]?

installments:
  need level <= 5
  p = person(); dear = pick(DEAR); v = some(10, 90) * 10
  say [{p} <buys/bought> a {dear} for ${v}.|A {dear} <costs/cost> ${v}, and {p} <buys/bought> it.]
  ask How much does {p} still have to pay?
  turns once down, discount, trade, tax while left > 1 or left == 1 and chance(0.5):
    down:
      a = part(v, 0.1, 0.5)
      say [{p.He} <pays/paid> ${a} at once.|{p.He} <makes/made> a down payment of ${a}.|{p.He} <puts/put> ${a} down.]
      v = v - a | That leaves # dollars
    discount:
      only if left >= 2
      x = pick(10, 20, 25, 30)
      need whole(v * x / 100)
      say [The seller <takes/took> {x}% off what is owed.|{p.He} <gets/got> {x}% off the amount.]
      off = v * (x / 100) | {x}% of it is # dollars
      v = v - off | That leaves # dollars
    trade:
      a = part(v, 0.05, 0.3)
      say [For {p.his} old one {p.he} <gets/got> ${a} off.|{p.His} parents <pay/paid> ${a} of it.
        |A gift card <covers/covered> ${a}.]
      v = v - a | That leaves # dollars
    tax:
      a = some(5, 60)
      say Taxes and fees of ${a} <are/were> added.
      v = v + a | With them it is # dollars
  done if not left
  k = divisor(v, 2, 12)
  if told > 1:
    owed = "the rest"; the_owed = "The rest"
  else:
    owed = "it off"; the_owed = "The price"
  say [{p.He} <pays/paid> {owed} in {k} equal monthly payments.|{the_owed} <is/was> paid in {k} equal payments.
    |{p.He} <wants/wanted> to pay it over {k} months, the same amount each month.]
  v = v / k | Each payment is # dollars
  ask How much is each [payment|monthly payment]?

raises:
  need level >= 2
  p = person(); rate = some(8, 30); h = some(3, 40); job = pick(JOBS)
  how = pick("raise", "overtime", "two jobs", "promotion")
  if how == "raise":
    a = some(2, 10); then = then()
    say [{p} <makes/made> ${rate} an hour as a {job}. {then}, {p.he} <gets/got> a raise of ${a} an hour.
        {p.He} <works/worked> {h} hours at the new rate.
      |{p}'s pay of ${rate} per hour as a {job} <goes/went> up by ${a} per hour,
        and {p.he} <works/worked> {h} hours after that.]
    pay = rate + a | The new pay is # dollars an hour
    v = pay * h | {p} earns # dollars
  else if how == "promotion":
    x = pick(10, 20, 25, 50)
    need whole(rate * x / 100)
    say {p} <earns/earned> ${rate} an hour as a {job}. After a promotion, {p.his} pay <is/was> {x}% higher.
    added = rate * (x / 100) | The raise is # dollars an hour
    pay = rate + added | The new pay is # dollars an hour
    ask How much <does/did> {p} earn per hour [after the promotion]?
    done if not left
    say {p.He} <works/worked> {h} hours a week.
    v = pay * h | {p} earns # dollars a week
  else if how == "overtime":
    need left >= 4
    m = some(2, 10)
    say [{p} <is/was> paid ${rate} an hour as a {job}, and twice as much for overtime.
        This week {p.he} worked {h} regular hours and {m} hours of overtime.
      |As a {job}, {p} <earns/earned> ${rate} per hour, and double that on Sundays.
        Last week, {p.he} worked {h} hours on weekdays and {m} hours on Sunday.]
    base = rate * h | The regular pay is # dollars
    double = rate * 2 | The higher pay is # dollars an hour
    extra = double * m | For the extra hours that is # dollars
    v = base + extra | {p} earns # dollars
  else:
    need left >= 3
    b = some(8, 30); m = some(3, 20); other = pick(JOBS)
    say [{p} <has/had> two jobs. {p.He} <works/worked> {h} hours a week as a {job} for ${rate} an hour
        and {m} hours a week as a {other} for ${b} an hour.
      |{p} <works/worked> {h} hours as a {job} at ${rate} per hour, and {m} hours as a {other} at ${b} per hour.]
    first = h * rate | The first job brings # dollars
    second = m * b | The second job brings # dollars
    v = first + second | {p} earns # dollars
  -> money | How much [money|] <does/did> {p} earn[| in total]?

rates_by_the_minute:
  need level >= 2
  text, unit = one of A printer can print {r} pages [a|per|every] minute. / pages |
    A faucet drips {r} drops [a|per] minute. / drops | {p}'s heart beats {r} times [a|per] minute. / beats |
    A machine fills {r} bottles [a|per|every] minute. / bottles | {p} can type {r} words [a|per] minute. / words |
    A website gets {r} visitors [a|per] minute. / visitors | {p} jumps rope at {r} jumps [a|per] minute. / jumps |
    A conveyor belt moves {r} boxes [a|per|every] minute. / boxes |
    A fountain uses {r} gallons of water [a|per] minute. / gallons |
    A factory makes {r} candles [a|per|every] minute. / candles | A windmill turns {r} times [a|per] minute. / turns
  p = person(); r = some(2, 40); h = some(2, 6)
  say {text}
  minutes = h * 60 | {h} hours are # minutes
  v = minutes * r | In that time it is # {unit}
  ask How many {unit} is that in {h} hours?
  turns stop, less, days, need:
    less:
      a = part(v, 0.05, 0.4)
      say In the last {h} hours, {a} {unit} [were lost|did not count].
      v = v - a | That leaves # {unit}
      ask How many {unit} counted in these {h} hours?
    days:
      only if left == 1
      d = some(2, 7)
      say This goes on for {h} hours a day.
      v = v * d | In {d} days that is # {unit}
      ask How many {unit} is that in {d} days?
    need:
      only if left == 1
      a = whole(v) + some(20, 500)
      say {a} {unit} are needed.
      v = a - v | # {unit} are missing
      ask How many {unit} are still missing after {h} hours?
    stop:
      need not left

weekly_habit:
  p = person(); a = some(2, 30); d = some(2, 6)
  does, unit = one of <runs/ran> / miles | <swims/swam> / laps | <bakes/baked> / loaves of bread |
    <drinks/drank> / cups of coffee | <writes/wrote> / pages | <practices/practiced> / songs |
    <sells/sold> / newspapers | <delivers/delivered> / packages | <walks/walked> / dogs | <washes/washed> / cars |
    <reads/read> / chapters | <plants/planted> / seeds | <grades/graded> / essays | <tutors/tutored> / students |
    <paints/painted> / tiles | <cooks/cooked> / meals | <milks/milked> / cows | <uploads/uploaded> / photos
  if chance(0.7):
    days = pick("{d} days a week", "{d} times a week")
  else:
    d, days = one of 7 / every day of the week | 5 / every weekday | 2 / every Saturday and Sunday |
      6 / every day except Sunday | 3 / every Monday, Wednesday and Friday
  say [{p} {does} {a} {unit} {days}.|{days}, {p} {does} {a} {unit}.]
  v = a * d | In a week that is # {unit}
  ask How many {unit} is that [in a week|per week|each week]?
  done if not left
  w = some(2, 12)
  w, span = pick((w, "{w} weeks"), (52, "a year"), (4, "four weeks"))
  if left > 1 and chance(0.5):
    x = some(2, 9)
    say [{p.He} <is/was> paid ${x} for each of these {unit}.|For each of the {unit} {p.he} <gets/got> ${x}.]
    v = v * x | In a week that is # dollars
    unit = "dollars"
  v = v * w | In {w} weeks that is # {unit}
  if unit == "dollars":
    if left:
      say {p.He} <does/did> this for {span}.
    -> money | How much money <does/did> {p} earn in {span}?
  done if unit == "dollars"
  ask How many {unit} is that in {span}?
  done if not left
  say {p.He} <keeps/kept> this up for {span}.
  if left == 1 and chance(0.5):
    g = whole(v) + some(5, 200)
    say {p.His} goal <is/was> {g} {unit}.
    v = g - v | # {unit} are missing
    ask [How many {unit} short of the goal <is/was> {p}?|How many more {unit} would {p} have needed?]
    done if not left
  q = person(); k = pick(2, 2, 3); many = times(k)
  say In the same time, {q} {does} {many} as many {unit}.
  other = v * k | {q}: # {unit}
  if left == 1:
    v = v + other | Together that is # {unit}
    ask How many {unit} is that for both of them [together|in total]?
  else:
    need not left
    ask How many {unit} is that for {q}?
