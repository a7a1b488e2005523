# Money that people have: earned, saved, spent, divided.

story earning: wage, wage_days, saved, had, two_jobs, sold, tips, salary

moves money: spend spend spend_on/2 spend_on/2 earn_more spend_half spend_fraction/2 spend_percent/2 save_percent! needs
  buy_with_it! split_money! expenses
moves needed: weeks_to_save!

# the same word three times: a draw that decides nothing, without which later draws would be others
HAS = How much money does {p} have [left|now|left]?
HAS_NOW = How much money does {p} have [now|now|now]?
HAS_LEFT = How much money does {p} have [left|left|left]?

wage:
  p = person(); rate = some(6, 40); h = some(3, 12); job = pick(JOBS); day = pick(WEEKDAYS)
  say [{p} <earns/earned> ${rate} [an|per] hour as a {job}. [On {day}|Last week|Yesterday], {p.he} worked {h} hours.
    |{p} <works/worked> as a {job} for {h} hours and <is/was> paid ${rate} per hour.
    |{p} <gets/got> ${rate} for every hour of work as a {job}. {p.He} <works/worked> {h} hours.
    |{p} <is/was> a {job} who <charges/charged> ${rate} an hour. One job <takes/took> {p.him} {h} hours.]
  v = rate * h | {p} earns # dollars
  -> money | How much [money|] <does/did> {p} earn?

wage_days:
  p = person(); rate = some(6, 30); h = some(2, 9); d = some(2, 7); job = pick(JOBS)
  say [{p} <works/worked> {h} hours a day, {d} days a week, as a {job}. {p.He} <earns/earned> ${rate} an hour.
    |As a {job}, {p} <is/was> paid ${rate} per hour. {p.He} <works/worked> {h} hours each day for {d} days.
    |{p} <makes/made> ${rate} an hour and <works/worked> {h}-hour shifts. Last week {p.he} had {d} shifts.]
  if chance(0.5):
    hours = h * d | {p} works # hours
    v = hours * rate | {p} earns # dollars
  else:
    day = h * rate | In a day {p} earns # dollars
    v = day * d | In {d} days {p} earns # dollars
  -> money | How much [money|] <does/did> {p} earn[| in total| that week]?

saved:
  p = person(); a = some(3, 40); d = some(3, 12); span = pick("week", "month", "day")
  say [{p} <saves/saved> ${a} [a|every|each] {span} for {d} {span}s.
    |{p} <gets/got> an allowance of ${a} [a|per] {span}. {p.He} <saves/saved> all of it for {d} {span}s.
    |[Every|Each] {span}, {p} <puts/put> ${a} into {p.his} [piggy bank|savings account]. {d} {span}s have passed.]
  v = a * d | {p} saves # dollars
  -> money | How much [money|] [has {p} saved|does {p} have]?

had:
  p = person(); v = some(20, 300); kin = pick(KIN); shop = pick(SHOPS)
  say [{p} <has/had> ${v}[| in {p.his} wallet| in the bank| in savings].|{p} <gets/got> ${v} for {p.his} birthday.
    |{p}'s {kin} <gives/gave> {p.him} ${v}.|{p} <goes/went> to {shop} with ${v}.|{p} <takes/took> ${v} out of the bank.]
  -> money | HAS

two_jobs:
  p = person(); a = some(10, 150); b = some(10, 150); x, y = sample(JOBS, 2); month = pick(MONTHS)
  kin = pick(KIN_BUT_MOTHER)
  say [{p} <earns/earned> ${a} as a {x} and ${b} as a {y}.
    |{p} <gets/got> ${a} from {p.his} mother and ${b} from {p.his} {kin}.
    |In {month}, {p} <saves/saved> ${a}, and in the following month {p.he} <saves/saved> ${b}.]
  v = a + b | Together that is # dollars
  -> money | HAS_NOW

sold:
  p = person(); things, thing = thing(CRAFTED, PICKED, BAKED)
  n = some(4, 60); price = some(2, 25); shop = pick(SHOPS); day = pick(WEEKDAYS)
  say [{p} <sells/sold> {n} {things} for ${price} each[| at {shop}].
    |{p} <makes/made> {things} and <sells/sold> each {thing} for ${price}.
      [Last week|On {day}|This month] {p.he} sold {n} of them.
    |At {shop}, {p} <sells/sold> {n} {things} at ${price} apiece.]
  v = n * price | The {things} bring # dollars
  -> money | How much [money|] <does/did> {p} [make|earn|get][| from the {things}]?

tips:
  p = person(); rate = some(6, 25); h = some(3, 10); t = some(10, 90)
  job = pick("waiter", "barber", "delivery driver", "guide at the museum")
  say [{p} <earns/earned> ${rate} an hour as a {job}, plus tips.
      {p.He} <works/worked> {h} hours and <gets/got> ${t} in tips.
    |For {h} hours of work, {p} <is/was> paid ${rate} per hour and a bonus of ${t}.]
  wage = rate * h | The wage is # dollars
  v = wage + t | {p} earns # dollars
  -> money | How much [money|] <does/did> {p} earn [in total|altogether]?

salary:
  p = person(); v = some(12, 60) * 50; job = pick(JOBS)
  say [{p} <earns/earned> ${v} [a|per|every] month[| as a {job}].|{p}'s monthly [salary|income|pay] <is/was> ${v}.]
  -> money | How much [money|] does {p} have left?

# ---- what can happen to it

spend:
  a = part(v); goods, good, _ = goods(); then = then(); kin = pick(KIN); shop = pick(SHOPS)
  say [{then}, {p.he} <spends/spent> ${a} on {goods}.|{p.He} <uses/used> ${a} to buy a {good}.
    |{p.He} <pays/paid> ${a} for [lunch|a {good}|a bus ticket|a phone bill].
    |{then}, {p.he} <gives/gave> ${a} to {p.his} {kin}.|{p.He} <spends/spent> ${a} of it [at {shop}|on {goods}].]
  v = v - a | {p} has # dollars left
  -> money | HAS_LEFT

spend_on:
  goods, good, price = goods(); k = some(2, 6)
  need k * price < v - 1
  then = then()
  say [{then}, {p.he} <buys/bought> {k} {goods} for ${price} each.
    |{p.He} <spends/spent> some of it on {k} {goods} that <cost/cost> ${price} each.
    |{p.He} <buys/bought> {k} {goods}. Each {good} <costs/cost> ${price}.
    |{then}, {p.he} <pays/paid> ${price} each for {k} {goods}.]
  cost = k * price | The {goods} cost # dollars
  v = v - cost | {p} has # dollars left
  -> money | HAS_LEFT

earn_more:
  a = some(5, 90); then = then(); kin = pick(KIN)
  say [{then}, {p.he} <earns/earned> ${a} more[| by helping a neighbor].|{p.His} {kin} <gives/gave> {p.him} ${a}.
    |{then}, {p.he} <gets/got> another ${a} [from {p.his} {kin}|for doing chores].
    |{p.He} also <finds/found> ${a} in an old coat.]
  v = v + a | Then {p} has # dollars
  -> money | How much money does {p} have now?

spend_half:
  need whole(v / 2)
  then = then(); kin = pick(KIN); dear = pick(DEAR)
  say [{p.He} <spends/spent> half of [it|the money|{p.his} money] on a {dear}.
    |{then}, {p.he} <gives/gave> half of the money to {p.his} {kin}.
    |{p.He} <puts/put> half of it in the bank and <keeps/kept> the rest.]
  v = v / 2 | {p} keeps # dollars
  -> money | HAS_LEFT

spend_fraction:
  k = divisor(v, 3, 6); f = fraction(k); then = then(); kin = pick(KIN); dear = pick(DEAR)
  say [{p.He} <spends/spent> {f} of [it|the money|{p.his} money] on [food|rent|clothes|books|a {dear}].
    |{then}, {p.he} <gives/gave> {f} of it to {p.his} {kin}.|{p.He} <puts/put> {f} of the money aside for taxes.]
  part = v / k | 1/{k} of the money is # dollars
  v = v - part | That leaves # dollars
  -> money | HAS_LEFT

spend_percent:
  x = pick(5, 10, 15, 20, 25, 30, 40, 60)
  need whole(v * x / 100)
  then = then()
  say [{p.He} <pays/paid> {x}% of it in taxes.
    |{p.He} <spends/spent> {x}% of [it|the money] on [food|rent|a gift|transport].
    |{then}, {p.he} <donates/donated> {x}% of it to [charity|an animal shelter|the school].]
  part = v * (x / 100) | {x}% of the money is # dollars
  v = v - part | That leaves # dollars
  -> money | HAS_LEFT

save_percent:
  x = pick(10, 20, 25, 30, 40, 50, 60, 75)
  need whole(v * x / 100)
  say [{p.He} <saves/saved> {x}% of [it|the money].
    |{p.He} <puts/put> {x}% of [it|the money] into a savings account.]
  v = v * (x / 100) | {x}% of it is # dollars
  -> money | How much [money|] <does/did> {p} save?

needs:
  goal = whole(v) + some(5, 120); dear = pick(DEAR)
  say [{p.He} <wants/wanted> to buy a {dear} that <costs/cost> ${goal}.
    |{p.He} <is/was> saving for a {dear}, which <costs/cost> ${goal}.|A {dear} <costs/cost> ${goal}.]
  v = goal - v | {p} still needs # dollars
  -> needed | How much more money <does/did> {p} need[| to buy the {dear}]?

weeks_to_save:
  k = divisor(v, 2, 25); span = pick("week", "week", "month", "day")
  say [{p.He} <can/could> save ${k} [a|per|each|every] {span}.|{p.He} <earns/earned> ${k} [a|every] {span}.]
  v = v / k | That takes # {span}s
  -> end | How many {span}s will it take {p} to
    [save enough|have enough money|get the rest of the money][| for the {dear}]?

buy_with_it:
  k = divisor(v, 2, 40); goods, good, _ = goods()
  say [{p.He} <spends/spent> [all of it|all the money|the rest] on {goods} that <cost/cost> ${k} each.
    |With [this money|the money], {p.he} <buys/bought> {goods} at ${k} each.|Each {good} <costs/cost> ${k}.]
  v = v / k | That is enough for # {goods}
  -> end | How many {goods} can {p} buy?

split_money:
  k = divisor(v, 2, 8); then = then()
  say [{p.He} <divides/divided> the money equally among {p.his} {k} [children|nephews|grandchildren].
    |{then}, {p.he} <gives/gave> the money to {p.his} {k} [children|nieces|sisters], in equal parts.]
  v = v / k | Each gets # dollars
  -> end | How much [money|] <does/did> each of them [get|receive]?

expenses:
  a = part(v, 0.05, 0.5)
  say [The materials|The supplies|The ingredients|Gas and parking|The tools] <cost/cost> {p.him} ${a}.
  v = v - a | {p} keeps # dollars
  -> money | [How much profit <does/did> {p} make?|What <is/was> {p}'s profit?
    |How much money <does/did> {p} have after paying for it?]
