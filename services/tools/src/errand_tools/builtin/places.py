"""Cities and countries as people say them, by IANA time zone.

The zones' own city names (Tokyo, New York) are known without this table. A country of several
zones stands for the zone of its capital or, where people expect otherwise, of most of its people.
"""

from collections.abc import Mapping

_PLACES: Mapping[str, str] = {
    "UTC": "utc, gmt, z, zulu, greenwich, greenwich mean time, coordinated universal time",
    "America/New_York": (
        "new york city, nyc, manhattan, brooklyn, washington, washington dc, washington d.c."
        ", boston, philadelphia, miami, atlanta, orlando, tampa, charlotte, pittsburgh,"
        " baltimore, cleveland,"
        " columbus, raleigh, jacksonville, buffalo, newark, usa, us, u.s., united states,"
        " united states of america, america, est, edt, et, eastern time, eastern, florida, georgia"
        " usa, ottawa, montreal, quebec"
    ),
    "America/Chicago": (
        "dallas, houston, austin, san antonio, minneapolis, st louis, saint louis, new orleans,"
        " milwaukee, memphis, nashville, kansas city, oklahoma city, texas, illinois, cst, cdt, ct,"
        " central time"
    ),
    "America/Denver": ("salt lake city, colorado, utah, albuquerque, mst, mdt, mt, mountain time, santa fe"),
    "America/Phoenix": "arizona, tucson, scottsdale",
    "America/Los_Angeles": (
        "la, l.a., san francisco, sf, san diego, san jose, silicon valley, seattle, portland,"
        " las vegas, sacramento, oakland, california, pst, pdt, pt, pacific time, palo alto,"
        " mountain view, hollywood, bay area"
    ),
    "America/Anchorage": "alaska",
    "Pacific/Honolulu": "hawaii, waikiki",
    "America/Toronto": "canada, ontario, hamilton",
    "America/Vancouver": "british columbia, victoria",
    "America/Edmonton": "calgary, alberta, banff",
    "America/Winnipeg": "manitoba",
    "America/Halifax": "nova scotia",
    "America/St_Johns": "newfoundland, st. john's",
    "America/Mexico_City": "mexico, guadalajara, cdmx, puebla",
    "America/Cancun": "playa del carmen, tulum",
    "America/Tijuana": "baja california",
    "America/Sao_Paulo": ("brazil, brasil, rio de janeiro, rio, brasilia, belo horizonte, curitiba, porto alegre"),
    "America/Bahia": "salvador de bahia",
    "America/Argentina/Buenos_Aires": "argentina, cordoba argentina, rosario, mendoza argentina",
    "America/Santiago": "chile, valparaiso",
    "America/Bogota": "colombia, medellin, cali, cartagena",
    "America/Lima": "peru, cusco",
    "America/Caracas": "venezuela",
    "America/Guayaquil": "ecuador, quito",
    "America/La_Paz": "bolivia",
    "America/Montevideo": "uruguay",
    "America/Asuncion": "paraguay",
    "America/Havana": "cuba",
    "America/Panama": "panama city",
    "America/Costa_Rica": "san jose costa rica",
    "America/Guatemala": "guatemala city",
    "America/Santo_Domingo": "dominican republic, punta cana",
    "America/Puerto_Rico": "san juan",
    "America/Jamaica": "kingston",
    "America/El_Salvador": "san salvador",
    "Europe/London": (
        "uk, u.k., united kingdom, great britain, britain, england, scotland, wales, edinburgh,"
        " glasgow, manchester, birmingham, liverpool, leeds, bristol, cardiff, oxford, cambridge,"
        " bst, belfast, northern ireland"
    ),
    "Europe/Dublin": "ireland, cork, galway",
    "Europe/Lisbon": "portugal, porto",
    "Europe/Madrid": ("spain, barcelona, valencia, seville, sevilla, bilbao, malaga, ibiza, mallorca"),
    "Atlantic/Canary": "canary islands, tenerife, gran canaria",
    "Europe/Paris": (
        "france, lyon, marseille, nice, toulouse, bordeaux, lille, strasbourg, cet, cest, central european time"
    ),
    "Europe/Brussels": "belgium, antwerp, ghent, bruges",
    "Europe/Amsterdam": "netherlands, the netherlands, holland, rotterdam, the hague, utrecht",
    "Europe/Luxembourg": "luxemburg",
    "Europe/Berlin": (
        "germany, deutschland, munich, münchen, hamburg, frankfurt, cologne, köln, stuttgart,"
        " düsseldorf, dusseldorf, leipzig, dresden, nuremberg, hannover, bremen"
    ),
    "Europe/Zurich": "switzerland, geneva, basel, bern, lausanne, davos",
    "Europe/Vienna": "austria, salzburg, graz, innsbruck",
    "Europe/Rome": ("italy, milan, milano, naples, turin, florence, venice, bologna, palermo, vatican city"),
    "Europe/Malta": "valletta",
    "Europe/Copenhagen": "denmark, aarhus",
    "Europe/Oslo": "norway, bergen, trondheim",
    "Europe/Stockholm": "sweden, gothenburg, malmo",
    "Europe/Helsinki": "finland, tampere, eet, eest",
    "Europe/Tallinn": "estonia",
    "Europe/Riga": "latvia",
    "Europe/Vilnius": "lithuania",
    "Europe/Warsaw": "poland, krakow, cracow, gdansk, wroclaw, poznan, lodz",
    "Europe/Prague": "czech republic, czechia, brno",
    "Europe/Bratislava": "slovakia",
    "Europe/Budapest": "hungary",
    "Europe/Bucharest": "romania, cluj",
    "Europe/Sofia": "bulgaria",
    "Europe/Athens": "greece, thessaloniki, crete, santorini",
    "Europe/Belgrade": "serbia",
    "Europe/Zagreb": "croatia, dubrovnik, split",
    "Europe/Ljubljana": "slovenia",
    "Europe/Sarajevo": "bosnia, bosnia and herzegovina",
    "Europe/Skopje": "north macedonia",
    "Europe/Tirane": "albania, tirana",
    "Europe/Kyiv": "ukraine, kiev, lviv, odesa, odessa, kharkiv",
    "Europe/Minsk": "belarus",
    "Europe/Chisinau": "moldova",
    "Europe/Moscow": "russia, st petersburg, saint petersburg, msk",
    "Asia/Vladivostok": "vladivostok",
    "Asia/Novosibirsk": "siberia",
    "Europe/Istanbul": "turkey, türkiye, ankara, izmir, antalya",
    "Atlantic/Reykjavik": "iceland",
    "Asia/Nicosia": "cyprus, limassol",
    "Asia/Jerusalem": "israel, tel aviv, haifa",
    "Asia/Beirut": "lebanon",
    "Asia/Amman": "jordan",
    "Asia/Damascus": "syria",
    "Asia/Baghdad": "iraq",
    "Asia/Tehran": "iran",
    "Asia/Riyadh": "saudi arabia, jeddah, mecca, medina",
    "Asia/Kuwait": "kuwait city",
    "Asia/Bahrain": "manama",
    "Asia/Qatar": "doha",
    "Asia/Dubai": "united arab emirates, uae, u.a.e., abu dhabi, sharjah",
    "Asia/Muscat": "oman",
    "Asia/Aden": "yemen",
    "Asia/Tbilisi": "georgia",
    "Asia/Yerevan": "armenia",
    "Asia/Baku": "azerbaijan",
    "Asia/Kabul": "afghanistan",
    "Asia/Karachi": "pakistan, islamabad, lahore, rawalpindi",
    "Asia/Kolkata": (
        "india, delhi, new delhi, mumbai, bombay, bangalore, bengaluru, chennai, madras, hyderabad,"
        " kolkata, calcutta, pune, ahmedabad, jaipur, goa, ist"
    ),
    "Asia/Colombo": "sri lanka",
    "Asia/Kathmandu": "nepal, kathmandu",
    "Asia/Dhaka": "bangladesh",
    "Asia/Thimphu": "bhutan",
    "Indian/Maldives": "male",
    "Asia/Almaty": "kazakhstan, astana",
    "Asia/Tashkent": "uzbekistan, samarkand",
    "Asia/Yangon": "myanmar, burma, rangoon",
    "Asia/Bangkok": "thailand, phuket, chiang mai, pattaya",
    "Asia/Ho_Chi_Minh": "vietnam, hanoi, saigon, ho chi minh city, da nang",
    "Asia/Phnom_Penh": "cambodia, siem reap",
    "Asia/Vientiane": "laos",
    "Asia/Kuala_Lumpur": "malaysia, penang, johor bahru",
    "Asia/Singapore": "sg",
    "Asia/Jakarta": "indonesia, bandung, surabaya, java",
    "Asia/Makassar": "bali, denpasar, ubud",
    "Asia/Manila": "philippines, the philippines, cebu, quezon city",
    "Asia/Shanghai": (
        "china, beijing, peking, shenzhen, guangzhou, chengdu, wuhan, hangzhou, nanjing, tianjin, xi'an, chongqing"
    ),
    "Asia/Hong_Kong": "hongkong, kowloon",
    "Asia/Macau": "macao",
    "Asia/Taipei": "taiwan, kaohsiung",
    "Asia/Ulaanbaatar": "mongolia, ulan bator",
    "Asia/Seoul": "south korea, korea, busan, incheon, kst",
    "Asia/Pyongyang": "north korea",
    "Asia/Tokyo": ("japan, osaka, kyoto, yokohama, nagoya, sapporo, fukuoka, kobe, hiroshima, okinawa, jst"),
    "Australia/Sydney": "australia, canberra, new south wales, aest, aedt",
    "Australia/Brisbane": "queensland, gold coast, cairns",
    "Australia/Perth": "western australia, awst",
    "Australia/Hobart": "tasmania",
    "Pacific/Auckland": "new zealand, nz, wellington, christchurch, queenstown, nzst, nzdt",
    "Pacific/Fiji": "suva",
    "Pacific/Port_Moresby": "papua new guinea",
    "Pacific/Tahiti": "french polynesia, bora bora",
    "Africa/Cairo": "egypt, alexandria, giza, luxor",
    "Africa/Tripoli": "libya",
    "Africa/Tunis": "tunisia",
    "Africa/Algiers": "algeria",
    "Africa/Casablanca": "morocco, rabat, marrakesh, marrakech, fez, tangier",
    "Africa/Dakar": "senegal",
    "Africa/Accra": "ghana",
    "Africa/Abidjan": "ivory coast, cote d'ivoire",
    "Africa/Lagos": "nigeria, abuja, kano",
    "Africa/Douala": "cameroon, yaounde",
    "Africa/Kinshasa": "democratic republic of the congo, drc",
    "Africa/Luanda": "angola",
    "Africa/Khartoum": "sudan",
    "Africa/Addis_Ababa": "ethiopia",
    "Africa/Nairobi": "kenya, mombasa",
    "Africa/Kampala": "uganda",
    "Africa/Kigali": "rwanda",
    "Africa/Dar_es_Salaam": "tanzania, zanzibar, dodoma",
    "Africa/Lusaka": "zambia",
    "Africa/Harare": "zimbabwe",
    "Africa/Maputo": "mozambique",
    "Africa/Windhoek": "namibia",
    "Africa/Gaborone": "botswana",
    "Africa/Johannesburg": "south africa, cape town, durban, pretoria, joburg, sast",
    "Indian/Mauritius": "port louis",
    "Indian/Antananarivo": "madagascar",
    "Antarctica/McMurdo": "antarctica",
}

ZONE_OF_PLACE: Mapping[str, str] = {
    place.strip(): zone for zone, places in _PLACES.items() for place in places.split(",")
}
