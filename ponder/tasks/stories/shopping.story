# What a purchase comes to: things at a price, discounts, tips, change.

story shopping: bought, bought, bought, single, rented, fares

moves cost: another another_line/2 another_line/2 cheaper_item/2 coupon extra percent_off/2 percent_on/2 change! change!
  left_over bill_split! weekly!

TOTAL = [How much <does/did> {p} [spend|pay][| in total| altogether]?|What <is/was> the total cost?
  |How much money <does/did> {p} spend?|What <does/did> {p} pay in total?]

bought:
  p = person(); things, thing, price = goods(); k = some(2, 12); shop = pick(SHOPS)
  say [{p} <buys/bought> {k} {things} [for|at] ${price} each[| at {shop}].
    |{p} <goes/went> to {shop} and <buys/bought> {k} {things}. Each {thing} <costs/cost> ${price}.
    |A {thing} <costs/cost> ${price}. {p} <buys/bought> {k} of them.
    |At {shop}, {things} <cost/cost> ${price} each. {p} <takes/took> {k} of them.
    |{p} <orders/ordered> {k} {things} online. They <cost/cost> ${price} apiece.
    |{p} <needs/needed> {k} {things} at ${price} each.]
  v = k * price | The {things} cost # dollars
  -> cost | TOTAL

single:
  p = person(); things, thing, price = goods(); v = some(price // 1 + 8, price // 1 * 2 + 20); shop = pick(SHOPS)
  say [{p} <buys/bought> a {thing} for ${v}[| at {shop}].
    |The price of a {thing} <is/was> ${v}, and {p} <buys/bought> one.
    |{p} <sees/saw> a {thing} that <costs/cost> ${v} and <buys/bought> it.]
  -> cost | TOTAL

rented:
  p = person(); rate = some(5, 45); h = some(2, 9)
  what, span = one of bike / hour | boat / hour | car / day | tent / day | hotel room / night | pair of skates / hour |
    kayak / hour | truck / day
  say [{p} <rents/rented> a {what} for {h} {span}s at ${rate} per {span}.
    |It <costs/cost> ${rate} [a|per] {span} to rent a {what}. {p} <rents/rented> one for {h} {span}s.]
  v = rate * h | The {what} costs # dollars
  -> cost | TOTAL

fares:
  p = person(); a = some(2, 6); b = some(2, 6); adult = some(8, 30); child = some(3, 12)
  where = pick("zoo", "museum", "water park", "aquarium", "theater", "circus", "fair", "science center")
  say [Tickets to the {where} <cost/cost> ${adult} for adults and ${child} for children.
    |The {where} <charges/charged> ${adult} per adult and ${child} per child.]
    {p} <takes/took> a group of {a} adults and {b} children [there|to the {where}].
  x = a * adult | The adults cost # dollars
  y = b * child | The children cost # dollars
  v = x + y | Together the tickets cost # dollars
  -> cost | TOTAL

# ---- what comes on top and what comes off

another:
  _, good, price = goods(); then = then()
  say [{p.He} also <buys/bought> a {good} for ${price}.|{then}, {p.he} <adds/added> a {good} that <costs/cost> ${price}.
    |{p.He} <pays/paid> ${price} more for a {good}.]
  v = v + price | With the {good} that is # dollars
  -> cost | TOTAL

another_line:
  goods, good, price = goods(); k = some(2, 8); then = then()
  say [{p.He} also <buys/bought> {k} {goods} [for|at] ${price} each.
    |{p.He} <gets/got> {k} {goods} too, at ${price} apiece.
    |{then}, {p.he} <buys/bought> {k} {goods}, and each {good} <costs/cost> ${price}.
    |{p.He} also <needs/needed> {k} {goods}, which <cost/cost> ${price} each.]
  more = k * price | The {goods} cost # dollars
  v = v + more | Together that is # dollars
  -> cost | TOTAL

cheaper_item:
  _, good, _ = goods(); how = pick("twice", "less", "more", "half"); d = part(v, 0.1, 0.5)
  if how == "half":
    need whole(v / 2)
    say {p.He} also <buys/bought> a {good} that <costs/cost> half as much as all that.
    price = v / 2 | The {good} costs # dollars
  if how == "twice":
    say {p.He} also <buys/bought> a {good} that <costs/cost> twice as much as everything so far.
    price = v * 2 | The {good} costs # dollars
  if how == "less":
    say {p.He} also <buys/bought> a {good} that <costs/cost> ${d} less than all that.
    price = v - d | The {good} costs # dollars
  if how == "more":
    say {p.He} also <buys/bought> a {good} that <costs/cost> ${d} more than everything before.
    price = v + d | The {good} costs # dollars
  v = v + price | Together that is # dollars
  -> cost | TOTAL

coupon:
  a = part(v, 0.05, 0.4)
  say [{p.He} <has/had> a coupon for ${a} off.|{p.He} <gets/got> a discount of ${a}.
    |{p.His} gift card <covers/covered> ${a} of it.|The store <takes/took> ${a} off the total.
    |{p.He} <gets/got> ${a} back as a rebate.]
  v = v - a | Then it is # dollars
  -> cost | TOTAL

extra:
  a = some(2, 20)
  say [Shipping <costs/cost> ${a} more.|{p.He} also <pays/paid> ${a} for delivery.|There <is/was> a ${a} service fee.
    |{p.He} <leaves/left> a ${a} tip.|{p.He} <pays/paid> ${a} in tax.|Parking <costs/cost> {p.him} another ${a}.]
  v = v + a | With that it is # dollars
  -> cost | TOTAL

percent_off:
  x = pick(10, 20, 25, 30, 40, 50, 15, 5)
  need whole(v * x / 100)
  say [{p.He} <gets/got> {x}% off.|There <is/was> a {x}% discount[| that day| for members| on everything].
    |The store <offers/offered> {p.him} a discount of {x}%.|Everything <is/was> on sale for {x}% off.]
  off = v * (x / 100) | The discount is # dollars
  v = v - off | That leaves # dollars to pay
  -> cost | TOTAL

percent_on:
  x = pick(5, 10, 10, 20, 15)
  need whole(v * x / 100)
  what = pick("sales tax of {x}%", "{x}% tip", "{x}% service charge", "tax of {x}%")
  say [{p.He} also <pays/paid> a {what}.|A {what} <is/was> added to the bill.]
  more = v * (x / 100) | {x}% of it is # dollars
  v = v + more | With it the bill is # dollars
  -> cost | TOTAL

change:
  bill = next_bill(v)
  say [{p.He} <pays/paid> with [a ${bill} bill|${bill}].|{p.He} <gives/gave> the cashier ${bill}.
    |{p.He} <hands/handed> over ${bill}.]
  v = bill - v | The change is # dollars
  -> end | How much change [<does/did> {p} get|should {p} get|<does/did> {p} receive][| back]?

left_over:
  n = whole(v) + some(2, 80)
  say [{p.He} <has/had> ${n} [with {p.him}|to spend|in {p.his} wallet][| at first].|{p.His} budget <is/was> ${n}.
    |{p.He} <came/came> with ${n}.]
  v = n - v | That leaves # dollars
  -> money | How much money [does {p} have left|is left|remains]?

bill_split:
  k = divisor(v, 2, 8)
  say [{p.He} and {p.his} friends, {k} people in all, <split/split> the cost equally.
    |The cost <is/was> shared equally by {k} people.|{k} friends <share/shared> the bill evenly.]
  v = v / k | Each pays # dollars
  -> end | How much <does/did> each [person|of them] pay?

weekly:
  need not is_told("month")
  k, span = one of 4 / week | 3 / month | 12 / month | 5 / week | 2 / week | 7 / day | 6 / month
  say [{p.He} <does/did> this every {span}|{p.He} <buys/bought> the same every {span}
    |{p.He} <spends/spent> that much each {span}].
  v = v * k | In {k} {span}s that is # dollars
  -> cost | How much <does/did> {p} spend in {k} {span}s?
