"""Word lists that the data generator draws values and fillers from."""

from __future__ import annotations

FIRST_NAMES = """Alice Bob Carla David Elena Frank Grace Henry Irene Jack Karen Liam Maria Noah Olivia Peter
Quinn Rosa Samuel Tina Ursula Victor Wendy Xavier Yara Zoe Ahmed Bianca Chen Diego Emma Fatima George Hana Ivan
Julia Kenji Lena Marco Nadia Omar Priya Rahul Sofia Thomas Uma Vera Walter Yusuf Amara Bruno Clara Dmitri Eva
Felix Gina Hugo Ines Jonas Kofi Lucia Mateo Nora Oscar Paula Ravi Sara Tom Anna Ben Leo Mia Max Ida Tariq Aisha
Lukas Marta Nils Petra Sven Ingrid Pavel Olga Mei Jin Hiro Yuki Sanjay Anita Carlos Pablo Rafael Lola""".split()

LAST_NAMES = """Smith Jones Garcia Miller Davis Lopez Wilson Anderson Taylor Moore Jackson Martin Lee Thompson White
Harris Clark Lewis Walker Young King Wright Scott Green Baker Adams Nelson Hill Campbell Mitchell Roberts Carter
Phillips Evans Turner Parker Collins Edwards Stewart Morris Murphy Cook Rogers Morgan Cooper Reed Bailey Bell
Kelly Howard Ward Cox Diaz Wood Watson Brooks Gray James Bennett Hughes Price Myers Foster Sanders Ross Novak
Schmidt Weber Rossi Ferrari Tanaka Suzuki Kim Park Chen Wang Singh Patel Kumar Silva Santos Costa Ivanov Petrov
Hansen Larsen Dubois Moreau Okafor Mensah""".split()

CITIES = """Tokyo,Paris,London,Berlin,Madrid,Rome,Vienna,Prague,Lisbon,Dublin,Oslo,Stockholm,Helsinki,Copenhagen,
Warsaw,Budapest,Athens,Istanbul,Cairo,Nairobi,Lagos,Cape Town,Johannesburg,Dubai,Mumbai,Delhi,Bangalore,Bangkok,
Singapore,Jakarta,Manila,Seoul,Beijing,Shanghai,Hong Kong,Taipei,Sydney,Melbourne,Auckland,New York,Los Angeles,
Chicago,Houston,Phoenix,Boston,Seattle,Denver,Miami,Atlanta,Dallas,San Francisco,Toronto,Vancouver,Montreal,
Mexico City,Bogota,Lima,Santiago,Buenos Aires,Sao Paulo,Rio de Janeiro,Zurich,Geneva,Brussels,Amsterdam,Hamburg,
Munich,Milan,Naples,Barcelona,Valencia,Porto,Krakow,Kyiv,Moscow,Riyadh,Doha,Tehran,Karachi,Lahore,Dhaka,Colombo,
Kathmandu,Hanoi,Kuala Lumpur,Osaka,Kyoto,Perth,Brisbane,Honolulu,Anchorage,Reykjavik,Edinburgh,Manchester,Lyon,
Marseille,Casablanca,Accra,Addis Ababa,Havana""".replace("\n", "").split(",")

NOUNS = """report invoice project budget meeting garden kitchen river mountain engine battery window printer server
camera guitar piano bicycle bottle carpet basket blanket candle castle desert dragon feather forest harbor island
jacket kettle ladder lantern market mirror needle ocean orchard palace pencil pillow planet pocket prairie puzzle
ribbon rocket saddle shadow shelter silver sketch spider spring statue stable summer sunset temple thunder ticket
tunnel valley velvet village violin wagon weather whistle winter wizard yogurt zebra apple banana cherry lemon
mango olive onion pepper potato tomato coffee bread butter cheese honey pasta rice salad soup sugar chicken salmon
budget contract delivery design draft event figure launch lesson letter list manual notice offer order outline
package plan policy poster proposal receipt release request review roadmap sample schedule signal slides solution
summary survey team template test theme training update upgrade vacation workshop""".split()

ADJECTIVES = """red blue green quick quiet bright heavy gentle early late new old fresh warm cold clean sharp
simple strong sweet tall tiny urgent weekly monthly annual daily final first second third private public local
global internal external modern ancient broken hidden golden silver wooden electric digital smart premium basic
standard special regular""".split()

VERBS = """call check clean close collect compare copy count deliver draft finish fix follow print prepare read
remind repair replace review schedule send share sign sort start submit test update visit wash water write buy
pick pay plan pack order""".split()

SYLLABLES = """ba be bi bo bu ca ce ci co cu da de di do du fa fe fi fo ga ge gi go ha he hi ho ja jo ka ke ki ko
la le li lo lu ma me mi mo mu na ne ni no nu pa pe pi po ra re ri ro ru sa se si so su ta te ti to tu va ve vi vo
wa wi ya yo za ze zi zo bran clor dren fith gral horn jast kelm lorn marsh nost prin quil reft stam thorn ulm vand
wick xen yarn zolt""".split()

DOMAINS_OF_MAIL = "example.com mail.org corp.net post.io acme.com team.dev studio.co uni.edu".split()

MONTHS = "January February March April May June July August September October November December".split()

LANGUAGES = """English Spanish French German Italian Portuguese Dutch Polish Russian Arabic Hindi Bengali Chinese
Japanese Korean Turkish Greek Swedish Danish Finnish Czech Hungarian""".split()

CURRENCIES = "USD EUR GBP JPY CHF CAD AUD INR CNY SEK NOK PLN BRL MXN".split()

PEOPLE = """employees customers visitors guests members students teachers managers drivers nurses doctors patients
tenants suppliers partners contractors volunteers users administrators developers engineers parents children players
residents travellers passengers subscribers applicants reviewers auditors owners directors interns trainees""".split()

THINGS = """receipts documents laptops phones badges keys parcels invoices contracts passwords backups reports complaints
tickets refunds samples batteries machines vehicles bicycles meals drinks tools forms requests holidays expenses
uniforms visitors books chairs screens licences certificates permits deposits fees bonuses salaries loans trainings
repairs orders deliveries returns cookies mails messages photos files records rooms desks lockers""".split()

COMPOUNDS = """meal allowance,support team,service desk,travel budget,return policy,notice period,trial period,welcome kit,
parking permit,fire alarm,emergency exit,sick leave,parental leave,overtime rate,expense limit,loan period,waiting time,
delivery window,service level,response time,data retention,office dog,coffee machine,meeting room,front door,back entrance,
power supply,water tank,engine oil,tyre pressure,brake fluid,warning light,user account,admin password,session timeout,
password length,upload limit,file size,export format,import job,night shift,early shift,lunch break,summer party,
annual review,pay slip,pension plan,health check,first aid kit,cleaning service,security guard,visitor badge,
press contact,brand color,logo size,style guide,news letter,sales target,price list,gift card,credit limit,payment term,
bank account,tax number,customs form,shipping cost,order minimum,reorder level,stock count,spare part,safety helmet,
access code,wifi name,guest network,printer paper,ink cartridge,project code,cost center,approval limit,signing authority,
release cycle,code freeze,test coverage,error budget,page size,cache size,queue length,retry limit,backup window,
maintenance window,room rate,check-in time,check-out time,luggage limit,seat reservation,cancellation fee,late fee,
membership fee,library card,exam date,tuition fee,class size,dress code,pool depth,opening day,closing day,rest day""".replace(
    "\n", ""
).split(",")

PAST_VERBS = """handed in,returned,approved,signed,stored,cleaned,repaired,replaced,reported,paid,booked,cancelled,
renewed,registered,archived,deleted,checked,tested,printed,shipped,locked,charged,refilled,inspected,reviewed,counted,
announced,published,submitted,collected,delivered,updated,encrypted,labelled,sealed,weighed,measured""".replace(
    "\n", ""
).split(",")

ACTIONS = """book business class,order a taxi,bring a guest,use the gym,work from home,park in the yard,borrow a laptop,
request a refund,open a ticket,take a day off,change the password,join the course,use the kitchen,invite a speaker,
rent a bicycle,swim in the lake,smoke outside,take photos,sell old devices,use the printer,enter the lab,leave early,
keep a pet,paint the walls,install software,share files,record calls,travel abroad,buy books,order lunch""".replace(
    "\n", ""
).split(",")

PLACES = """at the front desk,in the basement,on the second floor,next to the entrance,in the online portal,at the bank,
in the main hall,behind the canteen,in the app,at the help desk,by email,by phone,in the shared folder,at the warehouse,
in the annex,at the clinic,in the garden,on the roof,near the lift,in the archive""".replace("\n", "").split(",")
