# A wrong address or directive is refused with the words to correct it.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use Httpd;
use Private;
use Test::More;

my %common = (modules => [qw(rewrite actions)]);

# (whether it passes, what it says) of a configuration.
sub configtest {
    my ($config, %more) = @_;
    my ($status, $output) = Httpd->configtest(%common, config => $config,
                                              %more);
    return ($status == 0, $output);
}

sub accepted {
    my ($config, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($passes, $output) = configtest($config);
    return ok($passes, $name) || diag $output;
}

# Refused, with the file, the line that has the first of $words and with all
# of them in one line.
sub refused {
    my ($config, $name, @words) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($passes, $output) = configtest("# the next line is wrong\n$config");
    ok(!$passes, $name);
    my ($line) = grep { /FCGI20/ } split /\n/, $output;
    $line //= $output;
    like($line, qr/FCGI20: Syntax error on line \d+ of \S+httpd\.conf: /,
         'with file and line');
    like($line, $_, 'with words') for @words;
    return;
}

my $PORT = qr/write a number from 1 to 65535 and nothing behind it$/;
my $EXAMPLES = qr{write\ fcgi:/path/to/socket,\ fcgi:host:port\ or
                  \ fcgi:\[ipv6\]:port$}x;
my $PATH = qr{write fcgi:/path/to/socket$};
my $fits = '/' . 'x' x 106;
my $too_long = '/' . 'x' x 107;

# address => [what is wrong, what to write]
my %wrong = (
    'fcgi:' => [qr/the address is empty/, $EXAMPLES],
    'fcgi://' => [qr/the address is empty/, $EXAMPLES],
    'fcgi:localhost' => [qr/'localhost' names no port/, $EXAMPLES],
    'fcgi:127.0.0.1' => [qr/'127.0.0.1' names no port/, $EXAMPLES],
    'fcgi:9000' => [qr/'9000' names no port/, $EXAMPLES],
    'fcgi://localhost' => [qr/'localhost' names no port/, $EXAMPLES],
    'fcgi:[::1]' => [qr/'\[::1\]' names no port/, $EXAMPLES],
    'fcgi:[::1]9000' => [qr/'\[::1\]9000' names no port/, $EXAMPLES],
    'fcgi:[::1' => [qr/'\[::1' names no port/, $EXAMPLES],
    'fcgi:localhost:' => [qr/'' is not a port/, $PORT],
    'fcgi:localhost:0' => [qr/'0' is not a port/, $PORT],
    'fcgi:localhost:00' => [qr/'00' is not a port/, $PORT],
    'fcgi:localhost:65536' => [qr/'65536' is not a port/, $PORT],
    'fcgi:localhost:70000' => [qr/'70000' is not a port/, $PORT],
    'fcgi:localhost:4294967297' => [qr/'4294967297' is not a port/, $PORT],
    'fcgi:localhost:-1' => [qr/'-1' is not a port/, $PORT],
    'fcgi:localhost:+9000' => [qr/'\+9000' is not a port/, $PORT],
    'fcgi:localhost:9000x' => [qr/'9000x' is not a port/, $PORT],
    'fcgi:localhost:9000/' => [qr{'9000/' is not a port}, $PORT],
    'fcgi://localhost:9000/' => [qr{'9000/' is not a port}, $PORT],
    'fcgi://localhost:9000/var/www' => [qr{'9000/var/www' is not a port},
                                        $PORT],
    'fcgi:localhost:http' => [qr/'http' is not a port/, $PORT],
    'fcgi:localhost:90:00' => [qr/'90:00' is not a port/, $PORT],
    'fcgi:[::1]:0' => [qr/'0' is not a port/, $PORT],
    'fcgi:::1:9000' => [qr/'' is not a host/, $EXAMPLES],
    'fcgi::9000' => [qr/'' is not a host/, $EXAMPLES],
    'fcgi:[]:9000' => [qr/'' is not a host/, $EXAMPLES],
    'fcgi:lo!cal:9000' => [qr/'lo!cal' is not a host/, $EXAMPLES],
    'fcgi:user@host:9000' => [qr/'user\@host' is not a host/, $EXAMPLES],
    'fcgi:http://localhost:9000' => [qr/has an unknown scheme/, $EXAMPLES],
    'fcgi:tcp://localhost:9000' => [qr/has an unknown scheme/, $EXAMPLES],
    'fcgi:fcgi://localhost:9000' => [qr/has an unknown scheme/, $EXAMPLES],
    'fcgi:/' => [qr{'/' is not the absolute path of a socket}, $PATH],
    'fcgi:/./' => [qr{'/\./' is not the absolute path of a socket}, $PATH],
    'fcgi:unix://..' => [qr{'//\.\.' is not the absolute path of a socket},
                         $PATH],
    'fcgi:unix:' => [qr/'' is not the absolute path of a socket/, $PATH],
    'fcgi:unix:run/a.sock' => [qr{'run/a\.sock' is not the absolute path},
                               $PATH],
    'fcgi:run/a.sock' => [qr{'run/a\.sock' names no port}, $EXAMPLES],
    'fcgi:./a.sock' => [qr{'\./a\.sock' names no port}, $EXAMPLES],
    "fcgi:$too_long" => [
        qr/the socket path '$too_long' has 108 bytes, the system takes 107/,
        qr/use a shorter path$/],
    "fcgi:unix:$too_long" => [qr/has 108 bytes/, qr/use a shorter path$/],
    'FCGI:localhost' => [qr/'localhost' names no port/, $EXAMPLES],
);

# way to name a handler => the directive, which says A
my %ways = (
    SetHandler => 'SetHandler "A"',
    AddHandler => 'AddHandler "A" .php',
    RewriteRule => 'RewriteRule \.php$ - "[H=A]"',
);

for my $way (sort keys %ways) {
    subtest "$way with a wrong address" => sub {
        for my $address (sort keys %wrong) {
            my $directive = $ways{$way} =~ s/\bA\b/$address/r;
            refused($directive, $address, qr/$way .*\Q$address\E/,
                    @{ $wrong{$address} });
        }
    };
}

# as it is pasted => what to write
my %misspelt = (
    'fcgi:/run/app.sock|fcgi://localhost' => 'fcgi:/run/app.sock',
    'fcgi:/run/app.sock|fcgi://localhost/' => 'fcgi:/run/app.sock',
    'fcgi:/run/app.sock | fcgi://localhost/' => 'fcgi:/run/app.sock',
    'fcgi:/Run/App.sock|FCGI://localhost:8000/' => 'fcgi:/Run/App.sock',
    'fcgi:/run/app.sock|http://localhost' => 'fcgi:/run/app.sock',
    'fcgi:/run/app.sock|fcgi:localhost' => 'fcgi:/run/app.sock',
    'fcgi:/run/app.sock|fcgi:' => 'fcgi:/run/app.sock',
    'fcgi:unix:/run/app.sock|fcgi://localhost' => 'fcgi:/run/app.sock',
    'fcgi:///run/app.sock|fcgi://localhost' => 'fcgi:/run/app.sock',
    'fcgi:proxy:unix:/run/app.sock|fcgi://x' => 'fcgi:/run/app.sock',
    'fcgi://unix:/run/app.sock|fcgi://x ' => 'fcgi:/run/app.sock',
    'fcgi:localhost:9000|fcgi://localhost' => 'fcgi:localhost:9000',
    'fcgi:/run/app.sock ' => 'fcgi:/run/app.sock',
    "fcgi:/run/app.sock \t" => 'fcgi:/run/app.sock',
    'fcgi: /run/app.sock' => 'fcgi:/run/app.sock',
    'fcgi: unix:/run/app.sock ' => 'fcgi:/run/app.sock',
    'fcgi:/run/the app.sock ' => 'fcgi:/run/the app.sock',
    'fcgi:localhost:9000 ' => 'fcgi:localhost:9000',
    'fcgi: [::1]:9000' => 'fcgi:[::1]:9000',
    ' fcgi:/run/app.sock' => 'fcgi:/run/app.sock',
    "\tfcgi:/run/app.sock" => 'fcgi:/run/app.sock',
    '  fcgi:/run/app.sock|fcgi://localhost ' => 'fcgi:/run/app.sock',
    'fcgi:/run/%{SERVER_NAME}.sock|fcgi://x' => 'fcgi:/run/%{SERVER_NAME}.sock',
    'fcgi:/run/%{SERVER_NAME}.sock ' => 'fcgi:/run/%{SERVER_NAME}.sock',
    'fcgi:/run/%{SERVER_NAME} ' => 'fcgi:/run/%{SERVER_NAME}',
    ' fcgi:%{reqenv:X}' => 'fcgi:%{reqenv:X}',
);

for my $way (sort keys %ways) {
    subtest "$way with an address in another's spelling" => sub {
        for my $address (sort keys %misspelt) {
            # mod_rewrite ends a flag before the spaces behind it
            next if $way eq 'RewriteRule' && $address !~ /\|/;
            my $why = $address =~ /\|/ ? 'is written as for mod_proxy'
                : 'begins or ends with a space';
            refused($ways{$way} =~ s/\bA\b/$address/r, "'$address'",
                    qr/ \Q$why\E; write \Q$misspelt{$address}\E$/);
        }
    };
}

subtest 'FcgiBackend with an address in another\'s spelling' => sub {
    my %wrong = (
        'unix:/run/app.sock|fcgi://localhost' => 'as for mod_proxy',
        'proxy:unix:/run/app.sock|fcgi://localhost' => 'as for mod_proxy',
        'fcgi:/run/app.sock|fcgi://localhost' => 'as for mod_proxy',
        '/run/app.sock ' => 'with a space', ' /run/app.sock' => 'with a space',
    );
    for my $address (sort keys %wrong) {
        for my $name ('', 'app ') {
            my ($passes, $output) =
                configtest("FcgiBackend $name\"$address\" max=2");
            ok(!$passes, "$name'$address'");
            like($output, qr{$wrong{$address}; write fcgi:/run/app\.sock$}m);
        }
    }
};

subtest 'all other ways to write it' => sub {
    my $words = qr/'localhost' names no port/;
    my %places = (
        Location => "<Location /x>\nSetHandler fcgi:localhost\n</Location>",
        LocationMatch => "<LocationMatch x>\nSetHandler fcgi:localhost\n"
            . '</LocationMatch>',
        Files => "<Files *.x>\nSetHandler fcgi:localhost\n</Files>",
        FilesMatch => "<FilesMatch x>\nSetHandler fcgi:localhost\n"
            . '</FilesMatch>',
        Directory => "<Directory /x>\nSetHandler fcgi:localhost\n"
            . '</Directory>',
        If => "<If true>\nSetHandler fcgi:localhost\n</If>",
        'If in Files in Directory' => "<Directory /x>\n<Files x>\n<If true>\n"
            . "SetHandler fcgi:localhost\n</If>\n</Files>\n</Directory>",
        ElseIf => "<Location /x>\n<If true>\n</If>\n<ElseIf true>\n"
            . "SetHandler fcgi:localhost\n</ElseIf>\n</Location>",
        VirtualHost => "<VirtualHost *>\nAddHandler fcgi:localhost .x\n"
            . '</VirtualHost>',
        IfModule => "<IfModule mime_module>\nAddHandler fcgi:localhost .x\n"
            . '</IfModule>',
        Limit => "<Directory /x>\n<Limit GET>\nSetHandler fcgi:localhost\n"
            . "</Limit>\n</Directory>",
        'lower case' => 'sethandler fcgi:localhost',
        'no quotes' => 'AddHandler fcgi:localhost .a .b .c',
        'single quotes' => "SetHandler 'fcgi:localhost'",
        'a long flag' => 'RewriteRule x y [handler=fcgi:localhost]',
        'among flags' => 'RewriteRule x y [L,H=fcgi:localhost,E=a:b]',
        'spaces and flags' => 'RewriteRule x y "[L, H=fcgi:localhost, PT]"',
        'RewriteRule in a Directory' => "<Directory /x>\nRewriteRule x - "
            . "[H=fcgi:localhost]\n</Directory>",
        'a line that goes on' => "SetHandler \\\nfcgi:localhost",
        'the second of two' => "AddHandler fcgi:/a .a\n"
            . 'AddHandler fcgi:localhost .b',
    );
    refused($places{$_}, $_, $words) for sort keys %places;
};

subtest 'file and line' => sub {
    my $dir = Private::temp_dir('conf');
    my $path = Private::spew("$dir/some.conf", <<'EOC');
# one
<Location /x>
  # three
  SetHandler fcgi:localhost:70000
</Location>
EOC
    for my $include ('Include', 'IncludeOptional') {
        my ($passes, $output) = configtest("$include $dir/*.conf");
        ok(!$passes, $include);
        like($output, qr{FCGI20:\ Syntax\ error\ on\ line\ 4\ of\ \Q$path\E:
                         \ SetHandler\ fcgi:localhost:70000:\ '70000'\ is}x,
             'names the included file and its line');
    }
    my @lines = (configtest("Include $path"))[1] =~ /(FCGI20.*)/g;
    is(scalar @lines, 1, 'once');
    my $server = eval { Httpd->start(%common, config => 'SetHandler fcgi:') };
    ok(!$server, 'the server does not start');
    like($@, qr/FCGI20: Syntax error .* the address is empty/, 'and says so');
};

subtest 'right addresses' => sub {
    my @right = (
        'fcgi:/run/app.sock', 'fcgi:/a', 'fcgi:unix:/run/app.sock',
        'fcgi:///run/app.sock', 'fcgi:localhost:1', 'fcgi:localhost:65535',
        'fcgi:127.0.0.1:9000', 'fcgi:[::1]:9000', 'fcgi:[fe80::1%lo]:9000',
        'fcgi://localhost:9000', 'fcgi://[::1]:9000', 'fcgi:my_host-1.x:9000',
        'fcgi:/with space/and:colon', 'fcgi:/with|bar', 'FCGI:/run/app.sock', "fcgi:$fits",
        "fcgi:unix:$fits", 'fcgi:not-to-be-resolved.invalid:9000');
    for my $way (sort keys %ways) {
        accepted($ways{$way} =~ s/\bA\b/$_/r, "$way $_") for @right;
    }
};

subtest 'what is not for us' => sub {
    accepted($_, $_) for
        'SetHandler "proxy:fcgi://localhost"', 'AddHandler cgi-script .x',
        'SetHandler "proxy:unix:/run/app.sock|fcgi://localhost"',
        'SetHandler "proxy:unix:/run/%{SERVER_NAME}.sock|fcgi://localhost"',
        'AddHandler "proxy:unix:/run/app.sock|fcgi://localhost/" .php',
        'RewriteRule x "unix:/run/app.sock|fcgi://localhost/" [P]',
        'RewriteRule x - "[H=proxy:unix:/run/app.sock|fcgi://localhost]"',
        'SetHandler " cgi-script"',
        'RewriteRule x - "[H=fcgi:/run/app.sock , L]"',
        'RewriteRule x - "[ H=fcgi:localhost:9000 ]"',
        'SetHandler none', 'SetHandler fcgi', 'SetHandler "fcgi-script"',
        'RewriteRule x y [L]', 'RewriteRule x y', 'RewriteRule x y [H=cgi]',
        'RewriteRule x y [E=H:fcgi:localhost]', 'RewriteRule x "fcgi:y"',
        # known only when there is a request
        'SetHandler "fcgi:%{HTTP:X-Address}"', 'SetHandler "%{reqenv:X}"',
        'SetHandler "fcgi:%{reqenv:HOST}:70000"',
        'RewriteRule ^/(\w+) - "[H=fcgi:$1]"',
        'RewriteRule x - "[H=fcgi:%{HTTP:X-Address}]"';
};

subtest 'addresses that differ only in case' => sub {
    my $words = qr{'fcgi:/A/b'\ and\ 'fcgi:/a/B'\ differ\ only\ in\ upper
                   \ and\ lower\ case.*rename\ one\ socket$}x;
    my ($first, $second) = ('fcgi:/A/b', 'fcgi:/a/B');
    refused("$_->[0]\n$_->[1]", "$_->[0], $_->[1]", $words)
        for ["AddHandler $first .a", "AddHandler $second .b"],
        ["AddHandler $first .a", "SetHandler $second"],
        ["SetHandler $first", "AddHandler $second .b"],
        ["RewriteRule x - [H=$first]", "RewriteRule y - [H=$second]"];
    accepted("AddHandler $first .a\nAddHandler fcgi:unix:/a/B .b",
             'but not in case alone');
    accepted("<Location /a>\nSetHandler $first\n</Location>\n"
             . "<Location /b>\nSetHandler $second\n</Location>",
             'SetHandler keeps the case');
    accepted("AddHandler $first .a\nAddHandler $first .b\nSetHandler $first",
             'the same one many times');
    accepted("AddHandler fcgi:unix:/A/b .a\nAddHandler fcgi:/A/b .b",
             'spelt in two ways');
    accepted("AddHandler fcgi:Host:1 .a\nAddHandler fcgi:hOST:1 .b",
             'names of hosts have no case');
};

# directive => [values accepted], [values refused]
my @times = ([qw(1 5 500ms 1ms 2min 1h 30s 86400)],
             [qw(0 0ms -1 -5s abc 5x ms 1.5 +5 on), '', '1 2', ' ', '5 s']);
my %directives = (
    FcgiConnectTimeout => [$times[0], [@{ $times[1] }, 'off']],
    FcgiTimeout => [$times[0], [@{ $times[1] }, 'off']],
    FcgiFirstByteTimeout => [[@{ $times[0] }, 'off', 'Off'], $times[1]],
    FcgiTotalTimeout => [[@{ $times[0] }, 'off', 'OFF'], $times[1]],
    FcgiMaxHeaderSize => [
        [qw(256 65536 1K 64k 16M 16m 1024M 1073741824 1G 1g)],
        [qw(0 255 0K -1 12X 64KB 1.5K abc K off 1025M 1073741825 2G
            9223372036854775807K 18014398509481984K 17179869184G 1T
            18446744073709551616 99999999999999999999 8796093022208M), '',
         '1 2', '64 K']],
    FcgiIgnoreClientAbort => [[qw(On Off on OFF)], [qw(yes 1 maybe), '']],
);

for my $name (sort keys %directives) {
    subtest $name => sub {
        my ($right, $wrong) = @{ $directives{$name} };
        accepted("$name $_", "$name $_") for @$right;
        for my $value (@$wrong) {
            my ($passes, $output) = configtest("$name $value");
            ok(!$passes, "$name '$value' is refused");
            like($output, qr/Syntax error on line \d+ of \S+httpd\.conf:\n/,
                 'with file and line');
            like($output, qr/^\[?.*\b$name\b[: ]/m, 'and its name');
        }
        accepted("<$_>\n$name $right->[0]\n</" . s/ .*//r . '>', "in $_")
            for 'Directory /x', 'Location /x', 'Files x', 'If true',
                'VirtualHost *', 'LocationMatch x';
    };
}

subtest 'what a refusal says' => sub {
    my %says = (
        'FcgiConnectTimeout abc' => qr/'abc'\ is\ not\ a\ time\ above\ zero;
            \ write\ a\ number\ and\ ms,\ s,\ min\ or\ h,
            \ like\ 5,\ 500ms,\ 2min$/xm,
        'FcgiMaxHeaderSize 12X' => qr/'12X'\ is\ not\ a\ size\ from\ 256
            \ bytes\ to\ 1024M;\ write\ a\ number,\ alone\ or\ with\ K,\ M\ or\ G,
            \ like\ 64K$/xm,
        'FcgiIgnoreClientAbort maybe' => qr/must be On or Off/,
        'FcgiTimeout' => qr/takes one argument, how long no byte may move/,
    );
    like((configtest($_))[1], $says{$_}, $_) for sort keys %says;
};

subtest '.htaccess' => sub {
    my %status = map { $_ => /Ignore/ ? 200 : 500 } keys %directives;
    my %files = map { ("$_/a.txt" => 'text',
                       "$_/.htaccess" => "$_ $directives{$_}[0][0]") }
        keys %directives;
    my $httpd = Httpd->start(files => \%files);
    for my $name (sort keys %status) {
        is(Client->get($httpd->port, "/$name/a.txt")->status, $status{$name},
           $name . ($status{$name} == 200 ? ' allowed' : ' not allowed'));
    }
    like($httpd->error_log, qr/FcgiTimeout not allowed here/, 'in the log');
    $httpd->ok_healthy;
};

done_testing;
