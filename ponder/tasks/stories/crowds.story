# Crowds that come, go, divide into groups, pay and need things.

story crowds: seated, counted, counted, classes, ride

moves crowd: arrive leave group_part group_part/2 teams! per_team! pay_entry! eat_each
moves part: group_part part_pays!
moves needs: packs_needed packs_needed
moves packets: pay_packs!

LEFT_THERE = How many {who} [are left|are still there|are there now|remain]?

seated:
  who, place = pick(CROWDS); a = some(4, 30); b = some(4, 30)
  what, in_each = one of rows of seats / in each row | tables / at each table | benches / at each bench |
    tents / in each tent | rooms / in each room | buses / in each bus | vans / in each van
  one = last_word(in_each)
  say [At a {place} there <are/were> {a} {what} with {b} {who} {in_each}.
    |The {who} at a {place} <fill/filled> {a} {what}, {b} {who} to each {one}.
    |There <are/were> {a} {what} at the {place}, and {b} {who} <use/used> each {one}.]
  v = a * b | There are # {who}
  -> crowd | How many {who} [are|<are/were>] there[| in total| altogether]?

counted:
  who, place = pick(CROWDS); v = some(3, 60) * pick(1, 2, 4, 5, 10)
  say [There <are/were> {v} {who} at a {place}.|{v} {who} <go/went> to a {place}.|A {place} <has/had> {v} {who}.]
  -> crowd | LEFT_THERE

classes:
  a = some(5, 40); b = some(5, 40); who = "people"
  one, two = one of boys / girls | girls / boys | fourth graders / fifth graders | adults / children |
    teachers / students
  _, place = pick(CROWDS)
  say [A group of {a} {one} and {b} {two} <visits/visited> a {place}.
    |There <are/were> {a} {one} and {b} {two} at a {place}.|{a} {one} and {b} {two} <come/came> to the {place}.]
  v = a + b | Together there are # people
  -> crowd | How many people <are/were> there[| in total| altogether]?

ride:
  v = some(10, 80); place = pick(RIDES); who = "people"
  say [A {place} <starts/started> its trip with {v} passengers.|{v} passengers <are/were> on a {place}.
    |There <are/were> {v} people on a {place}.]
  -> crowd | How many [people|passengers] are [left|now|] on the {place}?

arrive:
  a = some(3, 60); then = then()
  say [{then}, {a} more {who} <arrive/arrived>.|{then}, another {a} {who} <join/joined> them.
    |{a} more <come/came> [in the afternoon|an hour later|later].]
  v = v + a | Then there are # {who}
  -> crowd | How many {who} are there [now|in total]?

leave:
  a = part(v); then = then()
  say [{then}, {a} of them <leave/left>.|{then}, {a} {who} <go/went> home[| early].
    |{a} {who} <get/got> tired and <leave/left>.]
  v = v - a | That leaves # {who}
  -> crowd | LEFT_THERE

group_part:
  has, lacks = one of are wearing hats / are not wearing hats | bring their own lunch / do not bring their own lunch |
    are left-handed / are not left-handed | speak Spanish / do not speak Spanish | wear glasses / do not wear glasses |
    come by bus / do not come by bus | like tea / do not like tea | have a pet / do not have a pet |
    play an instrument / do not play an instrument | live nearby / do not live nearby |
    are under 18 / are 18 or older
  if kind == "part":
    them = "these"
  else:
    them = pick("the {who}", "them")
  if chance(0.5):
    k = divisor(v, 2, 6); f = fraction(k)
    say {f} of {them} {has}.
    part = v / k | # {has}
  else:
    x = pick(10, 20, 25, 30, 40, 50, 60, 75, 80)
    need whole(v * x / 100)
    say {x}% of {them} {has}.
    part = v * (x / 100) | # {has}
  if left and chance(0.6):
    v = v - part | # {lacks}
    say The [others|rest|other {who}] {lacks}.
    -> part | How many {who} {lacks}?
  else:
    v = part
    -> part | How many {who} {has}?

part_pays:
  x = some(2, 25)
  say Each of these {who} [<pays/paid> ${x}|<donates/donated> ${x}|<spends/spent> ${x} on snacks].
  v = v * x | Together that is # dollars
  -> end | How [much money|many dollars] is that [in total|altogether]?

teams:
  k = divisor(v, 2, 15)
  what, in_each = one of teams / in | groups / in | boats / in | tables / at | rows / in | vans / in | rooms / in
  say [They <form/formed> {what} of {k}.|The {who} <are/were> divided into {what} of {k}.
    |{k} of them <fit/fit> {in_each} each of the {what}.]
  v = v / k | That makes # {what}
  -> end | How many {what} [are there|<are/were> needed|<do/did> they need]?

per_team:
  k = divisor(v, 2, 12)
  what, in_each = one of teams / in each team | groups / in each group | buses / in each bus | classes / in each class |
    tables / at each table
  one = singular(what)
  say [They <are/were> split into {k} equal {what}.|The {who} <are/were> divided equally among {k} {what}.]
  v = v / k | That is # for each {one}
  -> end | How many {who} <are/were> there {in_each}?

pay_entry:
  x = some(2, 25)
  say [Each of them <pays/paid> ${x}[| for a ticket| to get in].|A ticket <costs/cost> ${x} per person.
    |The entry fee <is/was> ${x} each.]
  v = v * x | They pay # dollars
  -> end | [How much money <is/was> collected?|How much <do/did> they pay in total?
    |How much money <do/did> the organizers get?]

eat_each:
  things, _ = thing(BAKED, PICKED, HANDED_OUT); x = some(2, 6)
  say Each of them [<gets/got>|<needs/needed>|<receives/received>] {x} {things}.
  v = v * x | They need # {things}
  -> needs | How many {things} <do/did> they [need|get] [in total|altogether|in all]?

packs_needed:
  k = divisor(v, 2, 24); box, boxes = one of pack / packs | box / boxes | bag / bags | tray / trays
  say [{things} <come/came> in {boxes} of {k}.|There <are/were> {k} {things} in a {box}.]
  v = v / k | That is # {boxes}
  -> packets | How many {boxes} <are/were> needed?

pay_packs:
  x = some(2, 15)
  say Each {box} <costs/cost> ${x}.
  v = v * x | They cost # dollars
  -> end | How much [do the {things} cost|<is/was> the total cost|will they cost in total]?
